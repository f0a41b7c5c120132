"""Which checkpoint the argument RUN|CHECKPOINT means, for the commands that apply a trained model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from jobs.home import Home

if TYPE_CHECKING:
    from jobs.store.records import CheckpointRecord

# By which metric a model is chosen, and which way it gets better; in order, of those that were measured.
_HEADLINES = (("si_sdr", max), ("wer", min))
# Best first, where no headline was measured.
_PREFERRED = ("best-val_loss_ema", "best-val_loss", "last")


def locate_checkpoint(home: Home, model: str, kind: str | None) -> Path:
    """Return the folder of a checkpoint.

    Args:
        home: where runs are.
        model: name or number of a run, or a folder: of a checkpoint, or of a run that has some.
        kind: which checkpoint of a run; None: the one that was measured best.

    Raises:
        click.UsageError: when there is none.
    """
    folder = Path(model).expanduser()
    holds_one = (folder / "manifest.json").is_file() or (folder / "checkpoints").is_dir()
    if kind is None and holds_one:
        return folder
    return checkpoint_of_run(home, model, kind)


def checkpoint_of_run(home: Home, model: str, kind: str | None) -> Path:
    """Return the folder of a run's checkpoint; raises what `locate_checkpoint` raises."""
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
    """Return the one with the best SI-SDR or WER, raw or EMA; else the best by loss; else the last."""
    for headline, better in _HEADLINES:
        by_value = {
            item.metrics[name]: item
            for item in checkpoints
            for name in (headline, f"{headline}_ema")
            if item.kind == f"best-{name}" and name in item.metrics
        }
        if by_value:
            return by_value[better(by_value)]
    ranked = [item for item in checkpoints if item.kind in _PREFERRED]
    return min(ranked, key=lambda item: _PREFERRED.index(item.kind), default=None)
