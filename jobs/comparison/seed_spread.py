"""How far runs that differ in nothing but the seed were apart, in the runs that a store holds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jobs.comparison.evaluations import RunScores, bad_items, settings_key
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
        from scipy.special import stdtr

        deviation = self.deviation * (2 * sum(1 / runs for runs in num_runs)) ** 0.5
        if deviation == 0:
            return 0.0
        return float(stdtr(self.freedom, -abs(mean) / deviation))


@dataclass(frozen=True, slots=True)
class Repeat:
    """A finished run of a group that differs in the seed alone; `updates` of its last evaluation."""

    run_id: int
    seed: int
    updates: int


def repeats_of(reader: StoreReader, scores: Sequence[RunScores]) -> list[list[Repeat]]:
    """Return the groups of finished runs with equal settings, validated on the same items as `scores`."""
    keys = {key for item in scores for key in item.items_keys.values()}
    groups: dict[str, list[Repeat]] = defaultdict(list)
    for run in reader.runs():
        if run.state != "finished":
            continue
        evaluations = reader.evaluations(run.id)
        if not evaluations or evaluations[-1].items_key not in keys:
            continue
        if key := settings_key(reader.config(run.id)):
            groups[key].append(Repeat(run.id, run.seed, updates=evaluations[-1].updates))
    return [group for group in groups.values() if len({run.seed for run in group}) > 1]


def seed_spread(
    reader: StoreReader, groups: Sequence[Sequence[Repeat]], *, metric: str
) -> SeedSpread | None:
    """Measure the spread on groups of runs; each run counts with its last value, a seed once.

    Runs whose last evaluation has bad items don't count: the worst value of a metric says nothing about
    seeds. None without two runs that differ in their seed alone.
    """
    several = []
    for group in groups:
        values: dict[int, float] = {}
        for run in group:
            value = reader.latest(run.run_id).get(metric)
            bad = bad_items(reader, run.run_id, updates=run.updates, metric=metric)
            if value is not None and not any(bad):
                values.setdefault(run.seed, value)
        if len(values) > 1:
            several.append(list(values.values()))
    freedom = sum(len(values) - 1 for values in several)
    if not freedom:
        return None
    squares = sum(float(np.var(values)) * len(values) for values in several)
    return SeedSpread((squares / freedom) ** 0.5, sum(map(len, several)), freedom=freedom)
