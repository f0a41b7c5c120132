"""What the workers do before a new run can start: the runs that are running or queued already."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from engine.batching.open_plan import PlanError
from engine.config.counters import UpdateSize
from engine.config.errors import ConfigError, DataError
from engine.config.loading import load_config
from engine.data.update_size import planned_size
from jobs.store.needs import in_vain
from jobs.store.reader import StoreReader
from jobs.store.records import RunRecord
from jobs.sweeps.measured import Duration, Measured


@dataclass(frozen=True, slots=True)
class Moment:
    """When something happens, in Unix seconds: as expected, and at the slowest speed measured."""

    expected: float
    latest: float


@dataclass(frozen=True, slots=True)
class Ahead:
    """A run that is running or queued; `end` is None where it is unknown."""

    run: RunRecord
    duration: Duration | None
    end: Moment | None


@dataclass(frozen=True, slots=True)
class Backlog:
    """What is done before a new run starts.

    Attributes:
        now: Unix time.
        free: when each worker is free; None where a run before has an unknown duration.
        ahead: the runs before, in queue order.
        num_alive: number of workers; without one, times are those of a worker that starts now.
    """

    now: float
    free: tuple[Moment, ...] | None
    ahead: tuple[Ahead, ...]
    num_alive: int

    @property
    def unknown(self) -> list[RunRecord]:
        """The runs of unknown duration."""
        return [item.run for item in self.ahead if item.duration is None]


def read_backlog(reader: StoreReader, measured: Measured, *, now: float) -> Backlog:
    """Return what the living workers, or one that starts now, do before a new run."""
    workers = [worker for worker in reader.workers() if worker.alive]
    lost = in_vain(reader.waits())
    runs = [run for run in reader.runs() if run.state in ("running", "queued")]
    runs = [run for run in runs if run.id not in lost]
    busy = {worker.run for worker in workers}
    # What a dead worker left running goes back to the queue, at its place.
    order = [run for run in runs if run.id in busy]
    order += sorted((run for run in runs if run.id not in busy), key=lambda r: (r.position, r.id))
    rests = _Rests(reader, measured, now=now)
    durations = [rests.of(run, is_running=run.id in busy) for run in order]
    known = [duration for duration in durations if duration is not None]
    free = [Moment(now, now)] * max(1, len(workers))
    ends: Sequence[Moment | None] = [None] * len(order)
    complete = len(known) == len(order)
    if complete:
        ends = placed(known, free)
    ahead = tuple(
        Ahead(run, duration, end) for run, duration, end in zip(order, durations, ends, strict=True)
    )
    after = tuple(free_after(known, free)) if complete else None
    return Backlog(now, after, ahead, num_alive=len(workers))


def placed(durations: Sequence[Duration], free: Sequence[Moment]) -> list[Moment]:
    """Return the end of each run, when the worker that is free first takes the next one."""
    expected = _ends([d.expected_s for d in durations], [moment.expected for moment in free])
    latest = _ends([d.slowest_s for d in durations], [moment.latest for moment in free])
    return [Moment(*pair) for pair in zip(expected, latest, strict=True)]


def free_after(durations: Sequence[Duration], free: Sequence[Moment]) -> list[Moment]:
    """Return when each worker is free after these runs."""
    expected = [moment.expected for moment in free]
    latest = [moment.latest for moment in free]
    _ends([d.expected_s for d in durations], expected)
    _ends([d.slowest_s for d in durations], latest)
    return [Moment(*pair) for pair in zip(sorted(expected), sorted(latest), strict=True)]


def _ends(seconds: Sequence[float], free: list[float]) -> list[float]:
    """Return the ends; `free` becomes the times at which the workers are free afterwards."""
    heapq.heapify(free)
    ends = []
    for duration in seconds:
        end = free[0] + duration
        heapq.heapreplace(free, end)
        ends.append(end)
    return ends


class _Rests:
    """How long runs that are running or queued still take."""

    def __init__(self, reader: StoreReader, measured: Measured, *, now: float) -> None:
        self._reader = reader
        self._measured = measured
        self._now = now
        # By settings: seeds of one variant read their data once.
        self._sizes: dict[str, UpdateSize] = {}

    def of(self, run: RunRecord, *, is_running: bool) -> Duration | None:
        """Return the rest of a run; None when it is unknown."""
        if is_running and run.stopping:
            return Duration(0.0, 0.0)
        begun = is_running and run.updates > 0
        rest = self._measured_rest(run, starts=not begun)
        if rest is None:
            # At the speed of its last minute.
            return None if run.eta_s is None else Duration(run.eta_s, run.eta_s)
        spent = 0.0
        if is_running and not begun and run.started_at is not None:
            spent = self._now - run.started_at
        return Duration(max(0.0, rest.expected_s - spent), max(0.0, rest.slowest_s - spent))

    def _measured_rest(self, run: RunRecord, *, starts: bool) -> Duration | None:
        try:
            config = load_config(self._reader.config(run.id))
            key = config.model_copy(update={"seed": 0}).to_json()
            if key not in self._sizes:
                self._sizes[key] = planned_size(config)
        except (ConfigError, DataError, PlanError):
            return None
        total = max(run.total_updates, run.updates)
        return self._measured.duration(
            config, self._sizes[key], total=total, done=run.updates, starts=starts
        )
