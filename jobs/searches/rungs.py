"""Values of a run at the positions where trials are compared, and the words for a trial that is given up."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from statistics import median

from engine.metrics.registry import metric_of
from jobs.searches.trials import Trial
from jobs.store.reader import StoreReader
from jobs.store.records import ALL_POINTS, RunRecord

# Where runs of different batch sizes are evaluated at the same position, rounding must not tell them apart.
_NEARLY = 1 - 1e-9


def evaluations_of(
    reader: StoreReader, run: RunRecord, *, metric: str, clock: str
) -> list[tuple[float, float]]:
    """Return (position on the clock, value) of each evaluation of a run; NaN where it is not finite."""
    if not run.updates:
        return []
    # Updates have equal numbers of items, at least on average.
    per_update = getattr(run, clock) / run.updates
    curve = reader.curve(run.id, metric, max_points=ALL_POINTS)
    return [
        (update * per_update, math.nan if value is None else value)
        for update, value in zip(curve.updates, curve.last, strict=True)
    ]


def last_value(evaluations: Sequence[tuple[float, float]]) -> float | None:
    """Return the value of the newest evaluation; None without one, and where it is not finite."""
    value = evaluations[-1][1] if evaluations else math.nan
    return value if math.isfinite(value) else None


def value_at(evaluations: Sequence[tuple[float, float]], position: float) -> float | None:
    """Return the value at a position, linear between two evaluations.

    None before the first evaluation, and where the run has not come there.
    """
    index = bisect_left(evaluations, (position * _NEARLY, -math.inf))
    if index == len(evaluations):
        return None
    after, value = evaluations[index]
    if after <= position / _NEARLY:
        return value
    if index == 0:
        return None
    before, earlier = evaluations[index - 1]
    share = (position - before) / (after - before)
    return earlier + share * (value - earlier)


def why_pruned(
    others: Iterable[Trial], *, rung: int, position: float, value: float, clock: str, metric: str,
    pruner: str,
) -> str:  # fmt: skip
    """Return why a trial is given up, with the numbers that decided it."""
    what = metric_of(metric)
    here = f"pruned at {position:,.6g} {clock}: {what.title} {what.with_unit(value)}"
    if not math.isfinite(value):
        return f"pruned at {position:,.6g} {clock}: {what.title} is not finite"
    seen = [
        trial.reported[rung]
        for trial in others
        if rung in trial.reported and (pruner != "median" or trial.state == "finished")
    ]
    seen = [item for item in seen if math.isfinite(item)]
    if not seen:
        return here
    if pruner == "median":
        return f"{here}, median of {len(seen)} trials {what.with_unit(median(seen))}"
    best = what.best(seen)
    return f"{here}, best of {len(seen)} trials {what.with_unit(best)} (hyperband keeps a third)"
