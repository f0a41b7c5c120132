"""Speed and size of earlier runs, from which a plan is estimated.

Each part of the time has its own settings: runs that differ in their batches share the time of an
evaluation, but not of an update.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from engine.config.counters import UpdateSize
from engine.config.errors import ConfigError
from engine.config.kinds import has_segments
from engine.config.loading import load_config
from engine.config.schema import RunConfig
from jobs.store.reader import StoreReader
from jobs.store.records import RunRecord
from jobs.submit import absolute
from jobs.sweeps.timing import Seconds, evaluations_of, timing_of
from presets.merging import value_at

# The settings that determine the time of an update, and the size of the checkpoints.
_OF_SPEED = (
    "model",
    "batch",
    "loss",
    "precision",
    "ema.enabled",
    "data.kind",
    "data.rate_hz",
    "data.channels",
    "data.segment_s",
    "data.max_s",
    "data.num_mels",
    "data.tokens",
    "data.vocab_size",
)
_OF_SIZE = ("model", "ema.enabled", "checkpoint.keep_last", "checkpoint.best", "data.channels")


# Runs with equal settings that are looked at, the longest first.
_MOST_RUNS = 5
# Settings of evaluations that change when they happen, not how long they take.
_WHEN = ("every", "full_every", "metrics_every", "at_start")
# A worker takes up the next run within seconds; a longer pause means that none was there.
_LONGEST_PAUSE_S = 30.0


@dataclass(frozen=True, slots=True)
class Duration:
    """How long something takes: as expected, and at the slowest speed measured."""

    expected_s: float
    slowest_s: float

    def plus(self, times: int, seconds: Seconds) -> Duration:
        """Return the duration with something added that happens so many times."""
        return Duration(
            self.expected_s + times * seconds.mean, self.slowest_s + times * seconds.slowest
        )


@dataclass(frozen=True, slots=True)
class Measured:
    """Speed and size of earlier runs, by the settings they depend on.

    Attributes:
        seconds: of an update, including evaluations and saving.
        sizes: bytes on disk.
        timings: of the parts of runs.
        turnaround_s: from the end of a run to the start of the next one.
    """

    seconds: Mapping[str, float]
    sizes: Mapping[str, int]
    timings: _Timings = field(default_factory=lambda: _Timings())
    turnaround_s: float = 0.0

    @classmethod
    def of(
        cls,
        reader: StoreReader,
        *,
        timed: StoreReader | None = None,
        gpus: Collection[str] | None = None,
    ) -> Measured:
        """Read them from the runs of a store; for the mean speed, the longest of equal runs counts.

        A short run is mostly startup and evaluations.

        Args:
            reader: the store.
            timed: one of runs that were made to be timed: they count where no other run tells, and in
                the mean speed with their updates alone.
            gpus: names of the GPUs of runs that count, "" for the CPU; None: all.
        """
        # Runs of which no sample is left count.
        runs = [
            one
            for one in _earlier(reader)
            if gpus is None or (name := reader.gpu_name(one.run.id)) is None or name in gpus
        ]
        seconds = {_of_update(one.config): one.run.train_seconds / one.run.updates for one in runs}
        short = _earlier(timed) if timed is not None else []
        timings = _timings(short).replaced_by(_timings(runs))
        of_updates = {key: known.mean for key, known in timings.update.items()}
        return cls(
            {**of_updates, **seconds},
            sizes=_sizes(short) | _sizes(runs),
            timings=timings,
            turnaround_s=_turnaround_s(reader),
        )

    def seconds_per_update(self, config: RunConfig) -> float | None:
        """Return the seconds per update, including evaluations and saving; None when unknown."""
        return self.seconds.get(_of_update(absolute(config).to_dict()))

    def update_time(self, config: RunConfig) -> Seconds | None:
        """Return the time of an update alone; None when unknown."""
        return self.timings.update.get(_of_update(absolute(config).to_dict()))

    def duration(
        self, config: RunConfig, size: UpdateSize, *, total: int, done: int = 0, starts: bool = True
    ) -> Duration | None:
        """Return how long a run takes; None when a part of it was never measured.

        Args:
            config: the run.
            size: what an update adds to the counters.
            total: its updates.
            done: updates it has made already.
            starts: whether it still has to start.
        """
        values = absolute(config).to_dict()
        count = evaluations_of(config, size, total=total, done=done)
        known = self.timings
        parts = (
            (total - done, known.update, _of_update(values)),
            (count.excerpts, known.excerpts, _of_evaluation(values)),
            (count.whole, known.whole, _of_evaluation(values)),
            (int(starts), known.startup, _of_startup(values)),
        )
        pause = self.turnaround_s if starts else 0.0
        duration = Duration(pause, pause)
        for times, seconds, key in parts:
            if times and key not in seconds:
                return None
            if times:
                duration = duration.plus(times, seconds[key])
        return duration

    def size_bytes(self, config: RunConfig) -> int | None:
        """Return the bytes of a run's checkpoints; None when unknown."""
        return self.sizes.get(_key(config.to_dict(), _OF_SIZE))


@dataclass(frozen=True, slots=True)
class _Earlier:
    """A run of a store, with its config."""

    reader: StoreReader
    run: RunRecord
    config: Mapping[str, Any]


def _earlier(reader: StoreReader) -> list[_Earlier]:
    """Return the runs of a store that have been trained, the shortest first."""
    runs = [run for run in reader.runs() if run.updates and run.train_seconds]
    return sorted((_Earlier(reader, run, reader.config(run.id)) for run in runs), key=_length)


def _turnaround_s(reader: StoreReader) -> float:
    """Return the median time between runs, of those that waited for the one before; 0 without any."""
    runs = sorted(
        (run for run in reader.runs() if run.started_at is not None),
        key=lambda run: run.started_at or 0.0,
    )
    pauses = [
        later.started_at - run.ended_at
        for run, later in itertools.pairwise(runs)
        if run.ended_at is not None
        and later.started_at is not None
        and later.created_at < run.ended_at <= later.started_at < run.ended_at + _LONGEST_PAUSE_S
    ]
    return median(pauses) if pauses else 0.0


def _length(earlier: _Earlier) -> tuple[int, float]:
    # Of equal length, the newest says most of the machine as it is.
    return earlier.run.updates, earlier.run.ended_at or 0.0


@dataclass(frozen=True, slots=True)
class _Timings:
    """Times of the parts of runs, as in `Timing`, by the settings that each depends on."""

    update: dict[str, Seconds] = field(default_factory=dict)
    excerpts: dict[str, Seconds] = field(default_factory=dict)
    whole: dict[str, Seconds] = field(default_factory=dict)
    startup: dict[str, Seconds] = field(default_factory=dict)

    def replaced_by(self, other: _Timings) -> _Timings:
        """Return these times, and those of `other` in place of them where it has them."""
        return _Timings(
            self.update | other.update,
            self.excerpts | other.excerpts,
            whole=self.whole | other.whole,
            startup=self.startup | other.startup,
        )

    def add(self, earlier: _Earlier) -> None:
        """Add what one run tells."""
        run = earlier.run
        try:
            config = load_config(earlier.config)
        except ConfigError:
            # Of a package that is no longer installed.
            return
        values = config.to_dict()
        size = UpdateSize(
            config.update_size.micro_batches,
            run.items / run.updates,
            audio_seconds=run.audio_seconds / run.updates,
            epochs=run.epochs / run.updates,
        )
        timing = timing_of(earlier.reader, run, config=config, size=size)
        for known, key, seconds in (
            (self.update, _of_update(values), timing.update),
            (self.excerpts, _of_evaluation(values), timing.excerpts),
            (self.whole, _of_evaluation(values), timing.whole),
            (self.startup, _of_startup(values), timing.startup),
        ):
            if seconds is not None:
                known[key] = known[key] + seconds if key in known else seconds


def _timings(runs: Sequence[_Earlier]) -> _Timings:
    """Return the times of runs, given the shortest first."""
    equal: dict[str, list[_Earlier]] = {}
    for one in runs:
        equal.setdefault(_of_update(one.config), []).append(one)
    timings = _Timings()
    for some in equal.values():
        for one in some[-_MOST_RUNS:]:
            timings.add(one)
    return timings


def _sizes(runs: Sequence[_Earlier]) -> dict[str, int]:
    """Return the bytes of checkpoints of runs; of equal ones that of the longest."""
    sizes = {}
    for one in runs:
        if size := sum(item.size_bytes for item in one.reader.checkpoints(one.run.id)):
            sizes[_key(one.config, _OF_SIZE)] = size
    return sizes


def _of_update(config: Mapping[str, Any]) -> str:
    """Return what determines the time of an update."""
    # Utterances vary in length with the data; segments have one length whatever the files.
    names = _OF_SPEED if has_segments(config) else (*_OF_SPEED, "data.train")
    return _key(config, names)


def _of_evaluation(config: Mapping[str, Any]) -> str:
    """Return what determines the time of an evaluation, wherever it comes in a run."""
    validation = _without(config["validation"], *_WHEN)
    changed = {**config, "data": _without(config["data"], "train"), "validation": validation}
    names = ("model", "loss", "precision", "ema.enabled", "data", "validation", "checkpoint.best")
    return _key(changed, names)


def _of_startup(config: Mapping[str, Any]) -> str:
    """Return what determines the time before the first update."""
    return _key(config, ("model", "loss", "precision", "data"))


def _without(values: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}


def _key(config: Mapping[str, Any], names: tuple[str, ...]) -> str:
    return json.dumps([value_at(config, name) for name in names], sort_keys=True)
