"""CPU share of a dashboard that nobody touches, on a store where nothing happens.

    python tests/bench/idle.py --home FOLDER [--seconds 30]

FOLDER is a home filled by `startup.py --home FOLDER`.
"""

from __future__ import annotations

import argparse
import os
import select
import sys
import time
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parent))
from startup import quit_app, start, wait_for


def main() -> None:
    """Print the share of one core used while idle."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=30.0)
    options = parser.parse_args()
    pid, terminal = start(options.home)
    wait_for(terminal, ["━ ".encode()])
    process, written = psutil.Process(pid), 0
    drain(terminal, 2.0)
    before, begun = process.cpu_times(), time.perf_counter()
    written = drain(terminal, options.seconds)
    after, wall = process.cpu_times(), time.perf_counter() - begun
    used = (after.user + after.system) - (before.user + before.system)
    quit_app(pid, terminal)
    print(f"idle: {used / wall:.2%} of a core, {written / wall:.0f} bytes/s (target < 3 %)")


def drain(terminal: int, seconds: float) -> int:
    """Read the terminal for a while; return the number of bytes."""
    end, written = time.perf_counter() + seconds, 0
    while (left := end - time.perf_counter()) > 0:
        if select.select([terminal], [], [], left)[0]:
            written += len(os.read(terminal, 1 << 16))
    return written


if __name__ == "__main__":
    main()
