"""`sepdash separate`: a trained model applied to audio files, in a child process that loads torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from jobs.home import Home
from tui.cli.common import with_home

if TYPE_CHECKING:
    from jobs.store.records import CheckpointRecord

_EXAMPLES = """\b
Examples:
  sepdash separate baseline-1 song.flac -o out
  sepdash separate 3 *.wav -o out --checkpoint last --device cpu
  sepdash separate ~/models/best-si_sdr noisy.wav -o clean
"""
# Best first; a lower val_loss is better, a higher SI-SDR is.
_PREFERRED = ("best-si_sdr_ema", "best-si_sdr", "best-val_loss_ema", "best-val_loss", "last")


@click.command(epilog=_EXAMPLES)
@click.argument("model", metavar="RUN|CHECKPOINT")
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
    checkpoint = _checkpoint_folder(model, kind) or _checkpoint_of_run(home, model, kind)
    options = [f"--{name.removesuffix('_s')}={value}" for name, value in settings.items()]
    # `-P` keeps the current folder, which may hold any file, from being imported.
    child = [sys.executable, "-P", "-m", "engine.separate", *options]
    paths = [str(path) for path in inputs]
    result = subprocess.run([*child, "--out", str(out), "--", str(checkpoint), *paths], check=False)
    code = result.returncode
    click.get_current_context().exit(code if code >= 0 else 128 - code)


def _checkpoint_folder(model: str, kind: str | None) -> Path | None:
    """Return the folder when `model` is that of a checkpoint, or of a run that has some."""
    folder = Path(model).expanduser()
    holds_one = (folder / "manifest.json").is_file() or (folder / "checkpoints").is_dir()
    return folder if kind is None and holds_one else None


def _checkpoint_of_run(home: Home, model: str, kind: str | None) -> Path:
    from jobs.store.reader import StoreReader

    if "/" in model:
        raise click.UsageError(f"{model} is no folder of a checkpoint: it has no manifest.json")
    with StoreReader(home.store) as reader:
        run = reader.run(model)
        # Newest first, so the newest of several `last` is put in place last.
        found = {item.kind: item for item in reversed(reader.checkpoints(run.id))}
    if kind is not None and kind not in found:
        have = ", ".join(found) or "none"
        raise click.UsageError(f"run {run.name} has no checkpoint {kind!r}; it has {have}")
    chosen = found[kind] if kind is not None else _best(list(found.values()))
    if chosen is None:
        raise click.UsageError(f"run {run.name} has no checkpoint yet; it is {run.state}")
    path = Path(chosen.path)
    return path if path.is_absolute() else home.run_folder(run.id) / path


def _best(checkpoints: list[CheckpointRecord]) -> CheckpointRecord | None:
    """Return the one with the best SI-SDR, raw or EMA; else the best by loss; else the last."""
    by_level = {
        item.metrics[name]: item
        for item in checkpoints
        for name in ("si_sdr", "si_sdr_ema")
        if item.kind == f"best-{name}" and name in item.metrics
    }
    if by_level:
        return by_level[max(by_level)]
    ranked = [item for item in checkpoints if item.kind in _PREFERRED]
    return min(ranked, key=lambda item: _PREFERRED.index(item.kind), default=None)
