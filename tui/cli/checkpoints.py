"""Resolves the argument RUN|CHECKPOINT of the commands that apply a trained model."""

from __future__ import annotations

from pathlib import Path

import click

from engine.checkpoints.layout import CHECKPOINTS, MANIFEST, choose_checkpoint, list_checkpoints
from jobs.home import Home
from models.user_paths import expanded


def locate_checkpoint(home: Home, model: str, *, kind: str | None) -> Path:
    """Return the folder of a checkpoint.

    Args:
        home: where runs are.
        model: name or number of a run, or a folder: a checkpoint, or a run with checkpoints.
        kind: which checkpoint of a run (`last`, `best-<metric>`); None selects the best one.

    Raises:
        click.UsageError: when there is none.
    """
    folder = expanded(model)
    if choose_checkpoint(folder) is not None or (folder / CHECKPOINTS).is_dir():
        return _choose(folder, kind=kind, title=str(folder))
    if "/" in model:
        raise click.UsageError(f"{model} is not a checkpoint folder: it has no {MANIFEST}")
    return checkpoint_of_run(home, model, kind=kind)


def checkpoint_of_run(home: Home, model: str, *, kind: str | None) -> Path:
    """Return the folder of a run's checkpoint; raises what `locate_checkpoint` raises."""
    from jobs.store.reader import StoreReader

    with StoreReader(home.store) as reader:
        run = reader.run(model)
    title = f"run {run.name}"
    return _choose(home.run_folder(run.id), kind=kind, title=title, state=f" (state: {run.state})")


def _choose(folder: Path, *, kind: str | None, title: str, state: str = "") -> Path:
    chosen = choose_checkpoint(folder, kind=kind)
    if chosen is not None:
        return chosen
    if kind is None:
        raise click.UsageError(f"{title} has no checkpoint yet{state}")
    names = ", ".join(place.name for place in list_checkpoints(folder)) or "none"
    raise click.UsageError(f"{title} has no checkpoint {kind!r}; available: {names}")
