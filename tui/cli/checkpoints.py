"""Which checkpoint the argument RUN|CHECKPOINT means, for the commands that apply a trained model."""

from __future__ import annotations

from pathlib import Path

import click

from engine.metrics.best import best_checkpoint
from jobs.home import Home


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
        by_kind = {item.kind: item for item in reversed(reader.checkpoints(run.id))}
    if kind is None:
        kind = best_checkpoint({name: item.metrics for name, item in by_kind.items()})
    elif kind not in by_kind:
        have = ", ".join(by_kind) or "none"
        raise click.UsageError(f"run {run.name} has no checkpoint {kind!r}; it has {have}")
    if kind is None:
        raise click.UsageError(f"run {run.name} has no checkpoint yet; it is {run.state}")
    path = Path(by_kind[kind].path)
    return path if path.is_absolute() else home.run_folder(run.id) / path
