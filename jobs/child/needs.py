"""The checkpoints that a run takes from other runs, found when it starts and kept to from then on.

The first start notes folder and content of each; a later one uses the same or says what has changed.
What is read at the start only may be gone once the run has a checkpoint of its own.
"""

from __future__ import annotations

from pathlib import Path

from engine.checkpoints.layout import CHECKPOINTS, content_of, list_checkpoints, update_of
from engine.config.references import CURVE
from jobs.home import Home
from jobs.store.needs import note_checkpoint
from jobs.store.reader import StoreReader
from jobs.store.records import NeedRecord
from jobs.store.writer import StoreWriter


class NeedError(ValueError):
    """A checkpoint that a run needs is no longer available."""


def checkpoints_needed(home: Home, run_id: int, *, note: bool) -> dict[str, Path]:
    """Return the checkpoint that each reference of a run leads to, by the key of its setting.

    Of a run whose curve is meant no checkpoint is needed (`jobs.child.reference`).

    Args:
        home: where the store and the runs are.
        run_id: the run.
        note: record the result in the store: the first of several processes does.

    Raises:
        NeedError: when a checkpoint that the run began with is gone or has changed.
        CheckpointError: when there is none.
    """
    with StoreReader(home.store) as reader:
        needs = [need for need in reader.needs(run_id) if need.which != CURVE]
    folders: dict[str, Path] = {}
    for need in needs:
        if need.checkpoint:
            folder = _as_before(need, home.run_folder(run_id))
        else:
            folder = _first_checkpoint(need, home)
            if note:
                _note(home, need, folder=folder)
        if folder is not None:
            folders[need.key] = folder
    return folders


def _first_checkpoint(need: NeedRecord, home: Home) -> Path:
    # Loads torch, which a run without needs should not wait for here.
    from engine.checkpoints.referenced import checkpoint_at, checkpoint_of

    if need.needed is None:
        return checkpoint_at(Path(need.reference), need.key)
    return checkpoint_of(home.run_folder(need.needed), need.which)


def _as_before(need: NeedRecord, own: Path) -> Path | None:
    """Return the checkpoint that the run started from; None if it is no longer needed."""
    folder = Path(need.checkpoint)
    content = content_of(folder)
    if content == need.content:
        return folder
    if need.only_at_start and any(
        update_of(saved.name) is not None for saved in list_checkpoints(own / CHECKPOINTS)
    ):
        return None
    how = "has changed" if content else "is missing"
    raise NeedError(
        f"{need.key}: the checkpoint this run started from ({folder}, {need.reference}) {how}; "
        "restore it and resume, or enqueue a new run"
    )


def _note(home: Home, need: NeedRecord, *, folder: Path) -> None:
    content = content_of(folder)
    message = f"{need.key}: {need.reference} is {folder} (content {content})"
    with StoreWriter(home.store) as store, store.transaction() as connection:
        note_checkpoint(connection, need, checkpoint=str(folder), content=content)
        store.add_event(
            need.run, "info", kind="need-met", message=message,
            details={"key": need.key, "run": need.needed, "checkpoint": str(folder), "content": content},
        )  # fmt: skip
