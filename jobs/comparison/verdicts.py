"""What a difference means: better, worse, equivalent or undecided, and what would decide it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from jobs.comparison.inference import FEWEST_ITEMS, Difference, Estimate, t_quantile

# Of recipes: better, worse, equivalent. Of trained models: models differ, models equivalent. Of both: undecided.
Verdict = Literal[
    "", "better", "worse", "equivalent", "models differ", "models equivalent", "undecided",
    "not comparable",
]  # fmt: skip

# More than this many runs a side, or this many times as many items, is no advice.
MOST_SEEDS = 50
MOST_TIMES_ITEMS = 100
# Quantile of the normal law for a chance of 80 %: with so many runs, four of five repeats decide.
_FOUR_OF_FIVE = 0.8416


@dataclass(frozen=True, slots=True)
class Decider:
    """What would decide an undecided comparison four times in five, if the measured values are the true ones.

    Attributes:
        seeds: seeds of each side in all; None where more seeds alone don't decide.
        more_runs: runs to train for that, on both sides.
        items: validation items in all; None where more items alone don't decide, or seeds do.
        gpu_hours: cost of `more_runs`; None where it is unknown.
    """

    seeds: int | None = None
    more_runs: int | None = None
    items: int | None = None
    gpu_hours: float | None = None


def decide(difference: Difference, *, margin: float, rises: bool) -> Verdict:
    """Decide a comparison.

    Args:
        difference: second minus first.
        margin: the smallest difference that counts, in the metric's stored unit; 0 for any.
        rises: whether higher is better.
    """
    if difference.num_items < FEWEST_ITEMS:
        return "undecided"
    models = difference.of == "models"
    if difference.is_within(margin):
        return "models equivalent" if models else "equivalent"
    if not difference.is_shown:
        return "undecided"
    if models:
        return "models differ"
    return "better" if (difference.mean > 0) == rises else "worse"


def decider(
    estimate: Estimate, alpha: float, *, margin: float, hours: tuple[float, float] | None
) -> Decider | None:
    """Return what would decide a comparison of recipes; None if nothing affordable would, or items are too few.

    Args:
        estimate: of a comparison that is undecided.
        alpha: level of its interval.
        margin: the smallest difference that counts.
        hours: GPU hours of one run of each side.
    """
    room = max(abs(estimate.mean), margin - abs(estimate.mean))
    if room <= 0 or estimate.num_items < FEWEST_ITEMS:
        return None
    have = max(estimate.num_runs)
    # Where one side has fewer seeds, as many as the other may do.
    for seeds in range(max(have, min(estimate.num_runs) + 1), MOST_SEEDS + 1):
        if _reach(estimate, alpha, seeds=seeds, times_items=1.0) <= room:
            more = [seeds - runs for runs in estimate.num_runs]
            cost = None if hours is None else sum(map(math.prod, zip(more, hours, strict=True)))
            return Decider(seeds=seeds, more_runs=sum(more), gpu_hours=cost)
    # Only the part of the items can be cut by more items; that of the runs is left as it is.
    times = 1.0
    while times < MOST_TIMES_ITEMS:
        times *= 1.25
        if _reach(estimate, alpha, seeds=have, times_items=times) <= room:
            return Decider(items=round(estimate.num_items * times))
    return None


def _reach(estimate: Estimate, alpha: float, *, seeds: int, times_items: float) -> float:
    """How far from 0 a difference must be to be decided four times in five."""
    # Each side has the same number of seeds then; its variance scales with what it has now.
    have = 2 / (1 / estimate.num_runs[0] + 1 / estimate.num_runs[1])
    runs = estimate.runs_variance * have / seeds
    per_side = estimate.runs_freedom / max(1.0, have - 1)
    freedom = max(1.0, per_side * (seeds - 1))
    items = estimate.items_variance / times_items
    half = (
        t_quantile(freedom, alpha) ** 2 * runs
        + t_quantile(estimate.items_freedom * times_items, alpha) ** 2 * items
    ) ** 0.5
    return float(half + _FOUR_OF_FIVE * (runs + items) ** 0.5)
