"""Resolves the argument RUN|CHECKPOINT of the commands that apply a trained model."""

from __future__ import annotations

from pathlib import Path

import click

from engine.metrics.best import best_checkpoint
from jobs.home import Home


def locate_checkpoint(home: Home, model: str, *, kind: str | None) -> Path:
    """Return the folder of a checkpoint.

    Args:
        home: where runs are.
        model: name or number of a run, or a folder: a checkpoint, or a run with checkpoints.
        kind: which checkpoint of a run; None selects the best one.

    Raises:
        click.UsageError: when there is none.
    """
    folder = Path(model).expanduser()
    holds_one = (folder / "manifest.json").is_file() or (folder / "checkpoints").is_dir()
    if kind is None and holds_one:
        return folder
    return checkpoint_of_run(home, model, kind=kind)


def checkpoint_of_run(home: Home, model: str, *, kind: str | None) -> Path:
    """Return the folder of a run's checkpoint; raises what `locate_checkpoint` raises."""
    from jobs.store.reader import StoreReader

    if "/" in model:
        raise click.UsageError(f"{model} is not a checkpoint folder: it has no manifest.json")
    with StoreReader(home.store) as reader:
        run = reader.run(model)
        # Records come newest first; reversed, the newest of several `last` wins.
        by_kind = {item.kind: item for item in reversed(reader.checkpoints(run.id))}
    if kind is None:
        kind = best_checkpoint({name: item.metrics for name, item in by_kind.items()})
    elif kind not in by_kind:
        have = ", ".join(by_kind) or "none"
        raise click.UsageError(f"run {run.name} has no checkpoint {kind!r}; available: {have}")
    if kind is None:
        raise click.UsageError(f"run {run.name} has no checkpoint yet (state: {run.state})")
    path = Path(by_kind[kind].path)
    return path if path.is_absolute() else home.run_folder(run.id) / path
