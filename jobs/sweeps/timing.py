"""Where the time of an earlier run went: start-up, updates, evaluations.

The curve `updates_per_s` excludes evaluations and saving; what remains between two evaluations is the
time of one of them, with the saving and the clips that follow it. Warm-up (caches, kernel selection)
is part of the start-up. Nothing here is assumed: a part that a run can't tell is None.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor
from statistics import fmean

from engine.config.counters import UpdateSize
from engine.config.schema import RunConfig
from engine.config.span import Span
from engine.metrics.registry import variant_of
from jobs.home import Home
from jobs.store.reader import StoreReader
from jobs.store.records import RunRecord

# A part of a run is long enough to average over single updates, and short enough to show a slow hour.
_PARTS = 4
# As in `engine.training.schedules`.
_TOLERANCE = 1e-9
# One line of a run's log for each process that trained it.
_PROCESS = re.compile(rb"^\d\d:\d\d:\d\d run .* process \d+$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Seconds:
    """Time of one thing: the mean of `count` measurements, and that of the slowest quarter of a run."""

    mean: float
    slowest: float
    count: int = 1

    def __add__(self, other: Seconds) -> Seconds:
        """Pool two sets of measurements."""
        count = self.count + other.count
        mean = (self.mean * self.count + other.mean * other.count) / count
        return Seconds(mean, max(self.slowest, other.slowest), count)


@dataclass(frozen=True, slots=True)
class Timing:
    """The time of one run; a part that is unknown is None.

    Attributes:
        update: one update.
        excerpts: one evaluation, with the saving that follows it.
        whole: one evaluation that includes whole files.
        startup: everything that happens once: loading, warm-up, the last checkpoint.
    """

    update: Seconds | None = None
    excerpts: Seconds | None = None
    whole: Seconds | None = None
    startup: Seconds | None = None


@dataclass(frozen=True, slots=True)
class Evaluations:
    """Number of evaluations of a run: of excerpts only, and of whole files, too."""

    excerpts: int
    whole: int


def evaluations_of(
    config: RunConfig, size: UpdateSize, *, total: int, done: int = 0
) -> Evaluations:
    """Return how many evaluations a run of `total` updates makes after update `done`.

    Follows `engine.training.trainer`: at the start, at every interval, at the end.
    """
    settings = config.validation
    last = {total} if done < total else set()
    whole = set(last) if settings.full_files else set()
    if settings.full_files and settings.full_every is not None:
        whole |= _due(settings.full_every, size, first=done + 1, last=total)
    every = last | _due(settings.every, size, first=done + 1, last=total)
    at_start = settings.at_start and not done
    if at_start and config.init_from is None:
        every.add(1)
    before = at_start and config.init_from is not None
    return Evaluations(excerpts=len(every - whole) + before, whole=len(whole))


def timing_of(
    reader: StoreReader, run: RunRecord, *, config: RunConfig, size: UpdateSize
) -> Timing:
    """Return where the time of a run of a store went.

    Args:
        reader: the store.
        run: one that has made updates.
        config: its config.
        size: what one of its updates adds to the counters.
    """
    update = _update_time(reader, run)
    if update is None:
        return Timing()
    full = _whole_updates(reader, run)
    extra = _extra(reader, run, update_s=update.mean)
    if not extra and (count := evaluations_of(config, size, total=run.updates)).excerpts:
        # A recipe without results of single items has no rows of evaluations.
        rest = max(0.0, run.train_seconds - run.updates * update.mean)
        extra = [] if count.whole else [(0, rest / count.excerpts)] * count.excerpts
    excerpts, whole = (
        [(number, s) for number, (at, s) in enumerate(extra) if (at in full) is of_whole]
        for of_whole in (False, True)
    )
    of_excerpts, of_whole = _evaluation(excerpts), _evaluation(whole)
    training_s = run.updates * update.mean + sum(
        known.mean * len(some)
        for known, some in ((of_excerpts, excerpts), (of_whole, whole))
        if known is not None
    )
    return Timing(update, of_excerpts, of_whole, _startup(reader, run, training_s=training_s))


def _extra(reader: StoreReader, run: RunRecord, *, update_s: float) -> list[tuple[int, float]]:
    """Return the update of each evaluation, and the seconds before it that no update took."""
    rows = [(0, 0.0), *((e.updates, e.train_seconds) for e in reader.evaluations(run.id))]
    return [
        (late, max(0.0, late_s - early_s - (late - early) * update_s))
        for (early, early_s), (late, late_s) in itertools.pairwise(rows)
    ]


def _evaluation(numbered: Sequence[tuple[int, float]]) -> Seconds | None:
    """Return the time of an evaluation; the first of a run, which has its warm-up, counts only alone."""
    later = [seconds for number, seconds in numbered if number]
    return _seconds(later or [seconds for _, seconds in numbered])


def _update_time(reader: StoreReader, run: RunRecord) -> Seconds | None:
    """Return the time of an update; the first one, a warm-up, is left out where there are others."""
    parts = reader.inverse_means(run.id, "updates_per_s", parts=_PARTS)
    if not parts:
        return None
    points = sum(count for _, count in parts)
    mean = sum(seconds * count for seconds, count in parts) / points
    return Seconds(mean, max(seconds for seconds, _ in parts), count=run.updates)


def _startup(reader: StoreReader, run: RunRecord, *, training_s: float) -> Seconds | None:
    if run.state != "finished" or run.started_at is None or run.ended_at is None:
        return None
    log = Home(reader.path.parent).run_folder(run.id) / "log.txt"
    try:
        starts = len(_PROCESS.findall(log.read_bytes()))
    except OSError:
        starts = 0
    if starts > 1:
        # It was interrupted: the time until it went on is not its own.
        return None
    seconds = max(0.0, run.ended_at - run.started_at - training_s)
    return Seconds(seconds, seconds)


def _whole_updates(reader: StoreReader, run: RunRecord) -> set[int]:
    """Return the updates at which whole files were evaluated."""
    names = [name for name in reader.series_names(run.id) if variant_of(name).full]
    return set(reader.curve(run.id, names[0]).updates) if names else set()


def _seconds(times: Sequence[float]) -> Seconds | None:
    """Return mean and slowest part of consecutive measurements; None without any."""
    if not times:
        return None
    parts = min(_PARTS, len(times))
    ends = [len(times) * (part + 1) // parts for part in range(parts)]
    slowest = max(fmean(times[a:b]) for a, b in zip([0, *ends[:-1]], ends, strict=True))
    return Seconds(fmean(times), slowest, count=len(times))


def _due(every: Span, size: UpdateSize, *, first: int, last: int) -> set[int]:
    """Return the updates from `first` to `last` at which `every` is due, as `is_due` rounds."""
    period = size.updates_in(every)
    if period <= 1:
        return set(range(first, last + 1))
    updates: set[int] = set()
    for number in itertools.count(1 + floor((first - 1) / period + _TOLERANCE)):
        update = ceil((number - _TOLERANCE) * period)
        if update > last:
            return updates
        updates.add(update)
    raise AssertionError("numbers do not end")
