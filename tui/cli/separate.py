"""`sepdash separate`: a trained model applied to audio files, in a child process that loads torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click

from jobs.home import Home
from tui.cli.checkpoints import locate_checkpoint
from tui.cli.common import complete_model, with_home

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
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
)  # fmt: skip
@click.option(
    "-o", "--out", metavar="DIR", required=True, type=click.Path(file_okay=False, path_type=Path),
    help="Folder to write <input>.<source>.wav into; made when it is not there.",
)  # fmt: skip
@click.option(
    "--checkpoint", "kind", help="Which checkpoint of the run [the one with the best SI-SDR]."
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, ...")
@click.option(
    "--chunk", "chunk_s", type=click.FloatRange(0.1, 3600), default=10.0, show_default=True,
    help="Seconds of audio on the device at once.",
)  # fmt: skip
@click.option(
    "--overlap", type=click.FloatRange(0, 0.75), default=0.25, show_default=True,
    help="Share of a chunk that is blended into the next.",
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
    """Apply a trained model to audio files of any length and rate."""
    checkpoint = locate_checkpoint(home, model, kind)
    options = [f"--{name.removesuffix('_s')}={value}" for name, value in settings.items()]
    # `-P` keeps the current folder, which may hold any file, from being imported.
    child = [sys.executable, "-P", "-m", "engine.programs.separate", *options]
    paths = [str(path) for path in inputs]
    result = subprocess.run([*child, "--out", str(out), "--", str(checkpoint), *paths], check=False)
    code = result.returncode
    click.get_current_context().exit(code if code >= 0 else 128 - code)
