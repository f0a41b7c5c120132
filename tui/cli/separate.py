"""`sepdash separate`: applies a trained model to audio files, in a child process that loads torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click

from jobs.home import Home
from tui.cli.checkpoints import locate_checkpoint
from tui.cli.common import checkpoint_option, complete_model, device_option, out_option, with_home
from tui.cli.numbers import Number
from tui.cli.paths import UserPath

_EXAMPLES = """\b
Examples:
  sepdash separate baseline-1 song.flac -o out
  sepdash separate 3 *.wav -o out --checkpoint last --device cpu
  sepdash separate ~/models/best-si_sdr noisy.wav -o clean
"""


@click.command(epilog=_EXAMPLES)
@click.argument("model", metavar="RUN|CHECKPOINT", shell_complete=complete_model)
@click.argument(
    "inputs", metavar="INPUT...", nargs=-1, required=True,
    type=UserPath(exists=True, dir_okay=False),
)  # fmt: skip
@out_option("Output folder for <input>.<source>.wav (created if missing).", required=True)
@checkpoint_option()
@device_option()
@click.option(
    "--chunk", "chunk_s", type=Number(0.1, 3600), default=10.0, show_default=True,
    help="Chunk length in seconds.",
)  # fmt: skip
@click.option(
    "--overlap", type=Number(0, 0.75), default=0.25, show_default=True,
    help="Overlap of adjacent chunks, as a fraction of the chunk length.",
)  # fmt: skip
@with_home
def separate(
    model: str,
    inputs: tuple[Path, ...],
    *,
    out: Path,
    kind: str | None,
    home: Home,
    **settings: str | float,
) -> None:
    """Apply a trained model to audio files of any length and sampling rate."""
    checkpoint = locate_checkpoint(home, model, kind=kind)
    options = [f"--{name.removesuffix('_s')}={value}" for name, value in settings.items()]
    # `-P` prevents imports from the current folder, which may contain any file.
    child = [sys.executable, "-P", "-m", "engine.programs.separate", *options]
    paths = [str(path) for path in inputs]
    result = subprocess.run([*child, "--out", str(out), "--", str(checkpoint), *paths], check=False)
    code = result.returncode
    click.get_current_context().exit(code if code >= 0 else 128 - code)
