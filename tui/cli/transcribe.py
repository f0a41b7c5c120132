"""`sepdash transcribe`: speech recognition with a trained model, in a child process that loads torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click

from jobs.home import Home
from models.user_paths import expanded
from tui.cli.checkpoints import locate_checkpoint
from tui.cli.common import (
    checkpoint_option,
    complete_model,
    device_option,
    json_option,
    out_option,
    with_home,
)
from tui.cli.numbers import Number
from tui.cli.paths import UserPath

_EXAMPLES = """\b
Examples:
  sepdash transcribe digits-1 call.wav
  sepdash transcribe 3 test.jsonl --beam 8              also compute error rates
  sepdash transcribe ~/models/best-wer *.flac --json
  sepdash transcribe 3 anna/wavs -o anna/texts.jsonl    a folder of recordings becomes a manifest
"""


@click.command(epilog=_EXAMPLES)
@click.argument("model", metavar="RUN|CHECKPOINT", shell_complete=complete_model)
@click.argument(
    "inputs", metavar="FILE...", nargs=-1, required=True,
    type=UserPath(exists=True),
)  # fmt: skip
@checkpoint_option()
@device_option()
@click.option(
    "--beam", type=click.IntRange(1, 256), default=1, show_default=True,
    help="Beam size; 1 is greedy decoding, the fastest.",
)  # fmt: skip
@click.option(
    "--longest", type=Number(1, 3600),
    help="Maximum segment in seconds; longer audio is split at quiet places [default: 20, or data.max_s "
    "of the run if larger].",
)  # fmt: skip
@click.option(
    "--confusions", type=click.IntRange(0, 1000), default=10, show_default=True,
    help="Number of most frequent errors to show.",
)  # fmt: skip
@click.option(
    "--stream", is_flag=True,
    help="Print partial results while decoding; Emformer models and greedy decoding only.",
)  # fmt: skip
@out_option(
    "Also write the transcriptions as a manifest (.jsonl), for example for `sepdash data voice`.",
    metavar="FILE",
)
@json_option
@with_home
def transcribe(
    model: str,
    inputs: tuple[Path, ...],
    *,
    kind: str | None,
    stream: bool,
    out: Path | None,
    as_json: bool,
    home: Home,
    **settings: str | float | None,
) -> None:
    """Transcribe audio files of any length and sampling rate.

    A FILE may also be a folder of audio, or a manifest (.jsonl) or a LibriSpeech folder: then the output is
    compared with the reference transcripts, and word and character error rates are printed.
    """
    if stream and (as_json or out or settings["beam"] != 1):
        raise click.UsageError(
            "--stream prints partial text with greedy decoding; remove --json, --out and --beam"
        )
    if out is not None:
        check_manifest(out)
    checkpoint = locate_checkpoint(home, model, kind=kind)
    options = [f"--{name}={value}" for name, value in settings.items() if value is not None]
    options += [f"--out={expanded(out).absolute()}"] if out else []
    options += ["--json"] * as_json + ["--stream"] * stream
    # `-P` prevents imports from the current folder, which may contain any file.
    child = [sys.executable, "-P", "-m", "engine.programs.transcribe", *options]
    paths = [str(path) for path in inputs]
    result = subprocess.run([*child, "--", str(checkpoint), *paths], check=False)
    code = result.returncode
    click.get_current_context().exit(code if code >= 0 else 128 - code)


def check_manifest(path: Path) -> None:
    """Refuse a file that can't be written, before anything is transcribed.

    Raises:
        click.UsageError: when it exists, is not named as a manifest, or its folder is missing.
    """
    path = expanded(path)
    if path.suffix != ".jsonl":
        raise click.UsageError(f"--out {path}: a manifest ends in .jsonl, as in {path.stem}.jsonl")
    if path.exists():
        raise click.UsageError(f"--out {path} exists; choose another name, or remove it")
    if not path.parent.is_dir():
        raise click.UsageError(f"--out {path}: folder {path.parent} does not exist")
