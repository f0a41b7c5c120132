"""Time from the start of the process to the dashboard's first frame, and to its first chart.

    python tests/bench/startup.py [--runs 500] [--updates 20000] [--repeat 5]

Builds a store of finished runs in a temporary home (once, some seconds), then starts the app in fresh
processes under a pseudo-terminal and reads when the first frame and the first curve came out.
"""

from __future__ import annotations

import argparse
import os
import pty
import select
import signal
import statistics
import struct
import sys
import tempfile
import time
from fcntl import ioctl
from pathlib import Path
from termios import TIOCSWINSZ

ROOT = Path(__file__).resolve().parents[2]
CHILD = "from jobs.home import Home; from tui.apps.dashboard import SepdashApp; SepdashApp(Home.locate({home!r})).run()"


def fill(root: Path, *, runs: int, updates: int) -> None:
    """Write finished runs: five curves with a point for each update, and their evaluations."""
    import numpy as np

    from jobs.home import Home
    from jobs.store.writer import StoreWriter

    home = Home.locate(root).create()
    random = np.random.default_rng(0)
    steps = np.arange(1, updates + 1)
    curves = {
        "loss": 2 * np.exp(-steps / 4000) + random.gamma(2, 0.05, updates),
        "lr": 3e-4 * np.exp(-steps / 9000),
        "grad_norm": random.gamma(3, 0.1, updates),
        "audio_s_per_s": 200 + random.normal(0, 6, updates),
        "updates_per_s": 12.5 + random.normal(0, 0.4, updates),
    }
    points = {name: values.tolist() for name, values in curves.items()}
    evaluated = {"si_sdr": [12.0] * (updates // 500), "si_sdr_ema": [12.4] * (updates // 500)}
    with StoreWriter(home.store) as store:
        for index in range(runs):
            row = {
                "name": f"denoise-small-{index}", "preset": "denoise/small", "config": "{}",
                "fingerprint": "0" * 64, "seed": index, "total_updates": updates,
            }  # fmt: skip
            run_id = store.insert_run(row)
            store.move(
                run_id, "finished", ["queued"], updates=updates, items=updates * 16, started_at=1e9,
                ended_at=1e9 + index, best=12.0, best_ema=12.4, input_score=6.0,
            )  # fmt: skip
            store.add_points(run_id, steps=steps.tolist(), series=points, units={})
            store.add_points(
                run_id, steps=list(range(500, updates + 1, 500)), series=evaluated, units={}
            )


def start(root: Path) -> tuple[int, int]:
    """Start the dashboard on a pseudo-terminal of 120 x 40; return process id and terminal."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["TERM"] = "xterm-256color"
        os.execv(sys.executable, [sys.executable, "-P", "-c", CHILD.format(home=str(root))])
    ioctl(terminal, TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    return pid, terminal


def wait_for(terminal: int, words: list[bytes], *, within_s: float = 30.0) -> list[float]:
    """Return the time at which each of the words was first on the terminal."""
    seen, found, end = b"", {}, time.perf_counter() + within_s
    while len(found) < len(words) and time.perf_counter() < end:
        if select.select([terminal], [], [], 0.05)[0]:
            seen += os.read(terminal, 1 << 16)
            now = time.perf_counter()
            found |= {word: now for word in words if word not in found and word in seen}
    return [found.get(word, float("nan")) for word in words]


def quit_app(pid: int, terminal: int) -> None:
    """Press q, and read what the terminal still has to say."""
    os.write(terminal, b"q")
    end = time.perf_counter() + 10
    while time.perf_counter() < end:
        try:
            if select.select([terminal], [], [], 0.05)[0] and not os.read(terminal, 1 << 16):
                break
        except OSError:
            break
    else:
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(terminal)


def main() -> None:
    """Print the medians of both times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--updates", type=int, default=20_000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--home", type=Path, help="a home to use, filled where it is empty")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = options.home or Path(folder)
        if not (root / "runs.db").exists():
            begun = time.perf_counter()
            fill(root, runs=options.runs, updates=options.updates)
            print(f"store of {options.runs} runs filled in {time.perf_counter() - begun:.0f} s")
        frames, charts = [], []
        for _ in range(options.repeat):
            begun = time.perf_counter()
            pid, terminal = start(root)
            frame, chart = wait_for(terminal, [b"SI-SDR", "━ ".encode()])
            quit_app(pid, terminal)
            frames.append(frame - begun)
            charts.append(chart - frame)
        for name, times, target in (("frame", frames, "1.2 s"), ("chart", charts, "0.15 s later")):
            middle, best = statistics.median(times), min(times)
            print(f"first {name}: median {middle:.3f} s, best {best:.3f} s (target < {target})")


if __name__ == "__main__":
    main()
