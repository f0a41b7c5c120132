"""`python -m engine.programs.separate CHECKPOINT INPUT...`: the process that `sepdash separate` starts.

A user error prints one message on stderr and exits with code 2.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from shutil import get_terminal_size

from engine.start_up import loading
from models.terminal import safe_streams

_NAME_COLUMNS = 24


@safe_streams()
def main(arguments: Sequence[str] | None = None) -> int:
    """Separate audio files with a checkpoint and print each output path; return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        with loading():
            from engine.recipes.separation.separator import separate_files

        written = separate_files(
            options.checkpoint,
            options.inputs,
            out_dir=options.out,
            device=options.device,
            chunk_s=options.chunk,
            overlap=options.overlap,
            progress=_show_bar if sys.stderr.isatty() else _say_done,
        )
    except KeyboardInterrupt:
        return 130
    except (ValueError, OSError) as error:
        sys.stderr.write(f"sepdash: {error}\n")
        return 2
    for path in written:
        sys.stdout.write(f"{path}\n")
    return 0


def _show_bar(path: Path, share: float) -> None:
    """Update one progress line of the terminal per file."""
    columns = get_terminal_size().columns
    room = max(10, min(60, columns - _NAME_COLUMNS - 9))
    done = round(share * room)
    bar = "#" * done + "-" * (room - done)
    name = path.name if len(path.name) <= _NAME_COLUMNS else f"{path.name[: _NAME_COLUMNS - 2]}.."
    end = "\n" if share >= 1 else ""
    sys.stderr.write(f"\r{name:<{_NAME_COLUMNS}} [{bar}] {share:4.0%}{end}")
    sys.stderr.flush()


def _say_done(path: Path, share: float) -> None:
    """Print the name of each finished file; used where stderr is not a terminal."""
    if share >= 1:
        sys.stderr.write(f"{path.name}: done\n")
        sys.stderr.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m engine.programs.separate", description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="checkpoint folder")
    parser.add_argument("inputs", type=Path, nargs="+", help="audio files")
    parser.add_argument("--out", type=Path, required=True, help="output folder")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--chunk", type=float, default=10.0, help="chunk length in seconds")
    parser.add_argument(
        "--overlap",
        type=float,
        default=0.25,
        help="fraction of a chunk that overlaps with the next",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
