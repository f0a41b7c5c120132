"""The checkpoint that a reference to a run leads to, once that run has finished."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from engine.checkpoints.files import CheckpointError
from engine.checkpoints.find import find_checkpoint
from engine.checkpoints.layout import (
    CHECKPOINTS,
    best_name,
    choose_checkpoint,
    choose_kmeans,
    list_checkpoints,
)
from engine.config.references import BEST, LAST
from engine.config.target_fit import KMEANS_FROM


def checkpoint_of(folder: Path, which: str) -> Path:
    """Return a checkpoint of a run.

    Args:
        folder: the run's folder.
        which: `best`, `last`, or the metric by which it was best (`engine.config.references`).

    Raises:
        CheckpointError: when there is none, with those that there are.
    """
    if which == BEST:
        return find_checkpoint(folder)
    chosen = choose_checkpoint(folder, kind=LAST if which == LAST else best_name(which))
    if chosen is not None:
        return chosen
    names = ", ".join(place.name for place in list_checkpoints(folder / CHECKPOINTS)) or "none"
    raise CheckpointError(f"{folder} has no checkpoint {which!r}; available: {names}")


def found(needs: Mapping[str, Mapping[str, str]]) -> dict[str, Path]:
    """Return the checkpoint of each reference, by its key.

    Args:
        needs: `folder`, and `which` of its checkpoints; `which` is empty where the folder itself was named.

    Raises:
        CheckpointError: when one has none.
    """
    return {
        key: checkpoint_of(Path(need["folder"]), need["which"])
        if need["which"]
        else checkpoint_at(Path(need["folder"]), key)
        for key, need in needs.items()
    }


def checkpoint_at(path: Path, key: str) -> Path:
    """Return the checkpoint that a folder leads to; a file takes the place of one.

    Args:
        path: the folder or file.
        key: the setting that names it.

    Raises:
        CheckpointError: when there is none.
    """
    of_kmeans = choose_kmeans(path) if key == KMEANS_FROM else None
    return path if path.is_file() else of_kmeans or find_checkpoint(path)
