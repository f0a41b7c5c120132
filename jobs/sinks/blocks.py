"""What a run says, as blocks of its journal and back: points, evaluations with their items, clips, notices."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from engine.checkpoints.choosing import CheckpointInfo
from engine.checkpoints.layout import manifest_values, metrics_in
from engine.events import ClipFile, ClipsWritten, Evaluated, Noticed, PointsRecorded
from jobs.sinks.journal import Block
from jobs.store.records import CheckpointRecord, ClipRecord

Kept = PointsRecorded | Evaluated | ClipsWritten | Noticed

_NONE = np.zeros(0, dtype=np.int64)


def block_of(event: Kept, *, stamp: float, train_seconds: float) -> Block:
    """Return what the journal keeps of an event of a Unix time, after so many seconds of training."""
    match event:
        case PointsRecorded():
            return Block(event.updates, event.series, units=event.units)
        case Evaluated():
            about = {"items_key": event.items_key, "train_seconds": train_seconds}
            return Block(
                np.array([event.counters.updates], dtype=np.int64),
                {name: np.array([value], np.float64) for name, value in event.metrics.items()},
                units=event.units, items=event.items, about={"evaluation": about},
            )  # fmt: skip
        case ClipsWritten():
            files = [asdict(file) for file in event.files]
            return Block(_NONE, {}, units={}, about={"clips": files})
        case Noticed():
            notice = {"level": event.level, "kind": event.kind, "message": event.message}
            notice |= {"details": event.details, "time": stamp}  # type: ignore[dict-item]
            return Block(_NONE, {}, units={}, about={"notice": notice})


def clip_records(run_id: int, files: list[ClipFile] | tuple[ClipFile, ...]) -> list[ClipRecord]:
    """Return the rows of clips."""
    return [
        ClipRecord(
            run_id, f.updates, item=str(f.item), kind=f.kind, path=f.path, spectrogram=f.spectrogram,
            text=f.text,
        )
        for f in files
    ]  # fmt: skip


def clips_in(about: dict[str, Any]) -> list[ClipFile]:
    """Return the clips that a block tells of."""
    return [ClipFile(**values) for values in about.get("clips", ())]


def checkpoint_records(run_id: int, found: list[CheckpointInfo]) -> list[CheckpointRecord]:
    """Return the rows of checkpoints that are on disk."""
    rows = []
    for one in found:
        if one.problem or one.is_aside:
            continue
        values = manifest_values(one.path)
        kind = str(values.get("kind", one.name))
        rows.append(
            CheckpointRecord(
                run_id, kind, path=str(one.path), updates=one.updates, metrics=metrics_in(values),
                size_bytes=one.size_bytes, created_at=one.saved_at,
            )
        )  # fmt: skip
    return rows
