"""How far runs that differ in nothing but the seed were apart, in the runs that a store holds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr

from engine.metrics.registry import NON_FINITE, stored_name, variant_of
from jobs.comparison.evaluations import RunScores, settings_key
from jobs.store.reader import StoreReader


@dataclass(frozen=True, slots=True)
class SeedSpread:
    """Standard deviation of the metric between seeds, pooled over groups of runs with equal settings.

    Attributes:
        num_runs: runs it was measured on.
        freedom: degrees of freedom: runs minus groups.
    """

    deviation: float
    num_runs: int
    freedom: int

    def chance_of_reversal(self, mean: float, *, num_runs: tuple[int, int]) -> float:
        """Return how often other seeds would reverse the order, after a difference of `mean`.

        Both the measured difference and that of the next runs carry the noise of seeds, hence the
        factor 2; nothing is assumed of the true difference beforehand.
        """
        deviation = self.deviation * (2 * sum(1 / runs for runs in num_runs)) ** 0.5
        if deviation == 0:
            return 0.0
        return float(stdtr(self.freedom, -abs(mean) / deviation))


def seed_spread(
    reader: StoreReader, scores: Sequence[RunScores], *, metric: str
) -> SeedSpread | None:
    """Measure the spread on finished runs that were validated on the same items as `scores`.

    Each run counts with its last value. Runs whose last evaluation has bad items don't count: the worst
    value of a metric says nothing about seeds. None without two runs that differ in their seed alone.
    """
    what = variant_of(metric)
    flag = stored_name(NON_FINITE, full=what.full, ema=what.ema)
    keys = {key for item in scores for key in item.items_keys.values()}
    groups: dict[str, dict[int, float]] = defaultdict(dict)
    for run in reader.runs():
        if run.state != "finished":
            continue
        evaluations = reader.evaluations(run.id)
        if not evaluations or evaluations[-1].items_key not in keys:
            continue
        if any(reader.item_results(run.id, evaluations[-1].updates, metric=flag)):
            continue
        value = reader.latest(run.id).get(metric)
        key = settings_key(reader.config(run.id))
        if value is not None and key:
            groups[key].setdefault(run.seed, value)
    several = [list(values.values()) for values in groups.values() if len(values) > 1]
    freedom = sum(len(values) - 1 for values in several)
    if not freedom:
        return None
    squares = sum(float(np.var(values)) * len(values) for values in several)
    return SeedSpread((squares / freedom) ** 0.5, sum(map(len, several)), freedom=freedom)
