"""Writes a run's events to the run store: curves, progress, checkpoints, notices, heartbeat.

`on_event` runs on the training thread and only buffers the event; another thread writes batches, each
in one transaction, so nothing is partially written and a failed batch can be retried.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from engine.checkpoints.choosing import checkpoints_of
from engine.config.counters import Counters
from engine.events import (
    CheckpointSaved,
    ClipsWritten,
    Evaluated,
    Event,
    Noticed,
    PointsRecorded,
    RunEnded,
    RunStarted,
    StageProgressed,
)
from engine.metrics.registry import input_name, metric_of, stored_name
from jobs.sinks.blocks import Kept, block_of, checkpoint_records, clip_records, clips_in
from jobs.sinks.journal import Block, Journal
from jobs.sinks.pump import Pump, Stamped
from jobs.store.errors import StoreUnavailable
from jobs.store.records import EvaluationRecord
from jobs.store.writer import StoreWriter

logger = logging.getLogger(__name__)

# Window of the speed, including evaluations and saves, so that the ETA accounts for them.
_SPEED_WINDOW_S = 60.0
# For the last events to be written at the end of a run; the worker kills it earlier if it was asked to stop.
_CLOSE_S = 600.0


class StoreSink:
    """An observer that writes to the store at `path`; `folder` is that of the run.

    Points that an earlier, killed process of the run left in its journal are stored first. The
    heartbeat starts at once. Call `close` at the end.
    """

    def __init__(self, path: Path, run_id: int, *, folder: Path) -> None:
        self._run_id = run_id
        self._folder = folder
        self._started_at: float | None = None
        self._store = StoreWriter(path)
        self._journal = Journal(folder / "points.journal")
        self._without_journal = False
        self._lock = threading.Lock()
        self._progress = Progress()
        self._recover(self._journal)
        self._pump = Pump(self._write, name="store-sink")

    def _recover(self, journal: Journal) -> None:
        with self._store.transaction() as connection:
            row = connection.execute(
                "SELECT train_seconds, metric FROM runs WHERE id = ?", (self._run_id,)
            ).fetchone()
            self._progress.earlier_s = row[0] if row else 0.0
            self._metric: str = row[1] if row else ""
            for block in journal.blocks():
                self._add_again(block)
            # A process that was killed may have saved, or pruned, more than it came to say.
            found = checkpoints_of(self._folder)
            self._store.set_checkpoints(self._run_id, checkpoint_records(self._run_id, found))
        journal.clear()

    def on_event(self, event: Event) -> None:
        """Buffer one event; returns at once."""
        stamp = time.time()
        if isinstance(event, RunStarted):
            self._started_at = stamp
        if isinstance(event, Kept):
            with self._lock:
                self._keep(block_of(event, stamp=stamp, train_seconds=self._seconds(stamp)))
                self._pump.put(event, stamp)
        else:
            self._pump.put(event, stamp)

    def close(self) -> None:
        """Write the remaining events.

        Raises:
            StoreUnavailable: when they could not be written.
        """
        complete = self._pump.close(_CLOSE_S)
        if complete:
            self._store.close()
            self._journal.close()
        else:
            raise StoreUnavailable(
                f"{self._store.path}: the last points of the run could not be written"
            )

    def _seconds(self, stamp: float) -> float:
        """Return the seconds of training until a Unix time."""
        return self._progress.earlier_s + stamp - (self._started_at or stamp)

    def _keep(self, block: Block) -> None:
        try:
            self._journal.append(block)
        except OSError:
            # Said once, and tried again: a disk may be full for a moment.
            if not self._without_journal:
                logger.exception(
                    "the journal of points can't be written; training continues without it"
                )
            self._without_journal = True
        else:
            self._without_journal = False

    def _write(self, batch: Sequence[Stamped]) -> None:
        with self._store.transaction():
            for stamp, event in batch:
                self._write_event(stamp, event)
            if dropped := self._pump.take_dropped() if batch else 0:
                text = f"{dropped} points of each curve were dropped because the store was busy for too long"
                self._store.add_event(self._run_id, "warning", kind="points-dropped", message=text)
            self._store.update_run(
                self._run_id, heartbeat_at=time.time(), **self._progress.columns()
            )
        with self._lock:
            # The batch is still in the buffer here; any later events are not in the store yet.
            if self._pump.holds_only(len(batch)):
                self._journal.clear()

    def _write_event(self, stamp: float, event: Event) -> None:
        store, run_id = self._store, self._run_id
        match event:
            case RunStarted():
                store.truncate_after(run_id, event.resumed_from)
                store.update_run(run_id, total_updates=event.total_updates, message="")
                self._progress.start(stamp, event.counters)
            case StageProgressed():
                store.update_run(run_id, message=event.text)
                if event.saved:
                    store.update_run(run_id, attempts=0)
            case PointsRecorded():
                self._add_block(block_of(event, stamp=stamp, train_seconds=0.0))
                self._progress.advance(stamp, event.counters)
            case Evaluated():
                self._add_block(block_of(event, stamp=stamp, train_seconds=0.0))
                self._note_best(event.metrics)
                if not event.late:
                    self._progress.advance(stamp, event.counters, apart_s=event.duration_s)
                self._add_items(event)
            case ClipsWritten():
                store.add_clips(clip_records(run_id, event.files))
            case CheckpointSaved():
                store.add_checkpoint(
                    run_id, event.kind, path=event.path,
                    updates=event.counters.updates, metrics=event.metrics, size_bytes=event.size_bytes,
                )  # fmt: skip
                if event.kind == "last":
                    store.update_run(run_id, attempts=0)
            case Noticed():
                store.add_event(
                    run_id,
                    event.level,
                    kind=event.kind,
                    message=event.message,
                    details=event.details,
                    time_s=stamp,
                )
            case RunEnded():
                self._progress.advance(stamp, event.counters)

    def _add_block(self, block: Block) -> None:
        self._store.add_points(
            self._run_id,
            steps=block.updates.tolist(),
            series={name: values.tolist() for name, values in block.series.items()},
            units=block.units,
        )

    def _add_again(self, block: Block) -> None:
        """Store a block of an earlier process; what of it is in the store already changes nothing."""
        self._add_block(block)
        store, run_id, about = self._store, self._run_id, block.about
        if evaluation := about.get("evaluation"):
            self._note_best({name: float(values[-1]) for name, values in block.series.items()})
            if block.items:
                record = EvaluationRecord(run_id, int(block.updates[-1]), **evaluation)
                store.add_results(record, {name: of.tolist() for name, of in block.items.items()})
        store.add_clips(clip_records(run_id, clips_in(about)))
        if notice := about.get("notice"):
            time_s = notice.pop("time")
            if not store.has_event(run_id, time_s=time_s, message=notice["message"]):
                store.add_event(run_id, notice.pop("level"), time_s=time_s, **notice)

    def _add_items(self, event: Evaluated) -> None:
        if not event.items:
            return
        now = self._progress.columns().get("train_seconds") or 0.0
        record = EvaluationRecord(
            self._run_id, event.counters.updates, train_seconds=now, items_key=event.items_key
        )
        results = {name: values.tolist() for name, values in event.items.items()}
        self._store.add_results(record, results)

    def _note_best(self, metrics: dict[str, float]) -> None:
        columns = {"best": self._metric, "best_ema": stored_name(self._metric, ema=True)}
        values = {column: metrics[name] for column, name in columns.items() if name in metrics}
        self._store.note_best(self._run_id, values, lower=not metric_of(self._metric).rises)
        if np.isfinite(value := metrics.get(input_name(self._metric), np.nan)):
            self._store.update_run(self._run_id, input_score=float(value))


class Progress:
    """Progress and speed of the run, as columns of `runs`.

    The speed, and so the time left, is that of training alone: evaluations take time of their own. The time of
    training is all of it since the start.
    """

    def __init__(self) -> None:
        self.earlier_s = 0.0
        self._started: float | None = None
        # Clock without evaluations, and updates.
        self._marks: deque[tuple[float, int]] = deque()
        self._apart_s = 0.0
        self._now = 0.0
        self._counters: Counters | None = None

    def start(self, stamp: float, counters: Counters) -> None:
        """Record the start of training."""
        self._started = stamp
        self._marks.clear()
        self.advance(stamp, counters)

    def advance(self, stamp: float, counters: Counters, *, apart_s: float = 0.0) -> None:
        """Record the counters at a Unix time; `apart_s` seconds before it were no training."""
        self._counters, self._now = counters, stamp
        self._apart_s += apart_s
        trained = stamp - self._apart_s
        # An evaluation can't have taken longer than the time since the last mark.
        trained = max(trained, self._marks[-1][0] if self._marks else trained)
        self._marks.append((trained, counters.updates))
        while len(self._marks) > 2 and trained - self._marks[0][0] > _SPEED_WINDOW_S:
            self._marks.popleft()

    def columns(self) -> dict[str, float | None]:
        """Return the columns that have changed in the run's row."""
        if self._counters is None or self._started is None:
            return {}
        (since, before), (now, updates) = self._marks[0], self._marks[-1]
        return {
            "updates": updates,
            "micro_batches": self._counters.micro_batches,
            "items": self._counters.items,
            "audio_seconds": self._counters.audio_seconds,
            "epochs": self._counters.epochs,
            "train_seconds": self.earlier_s + self._now - self._started,
            "speed": (updates - before) / (now - since) if now > since else None,
        }
