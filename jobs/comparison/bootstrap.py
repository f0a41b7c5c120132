"""Confidence intervals of differences: paired by item, resampled over items and seeds.

Letters: S runs of a variant that differ in their seed, N items, R resamples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LEVEL = 0.95
RESAMPLES = 4_000
# With fewer items a bootstrap interval is too narrow: three items agree in sign by chance one time in
# four, and would look certain.
FEWEST_ITEMS = 10
# Item indices drawn at once: about 30 MB.
_BLOCK = 4_000_000


@dataclass(frozen=True, slots=True)
class Difference:
    """The mean of second minus first, and its 95 % confidence interval.

    Attributes:
        num_items: items with a value in both.
        num_runs: number of runs of the first and of the second.
    """

    mean: float
    low: float
    high: float
    num_items: int
    num_runs: tuple[int, int]

    @property
    def is_shown(self) -> bool:
        """Whether the difference is significant: enough items, and an interval without 0."""
        return self.num_items >= FEWEST_ITEMS and (self.low > 0 or self.high < 0)


def paired_difference(
    first_SN: np.ndarray, second_SN: np.ndarray, *, resamples: int = RESAMPLES, seed: int = 0
) -> Difference | None:
    """Compare two variants on the same items, by percentiles of the paired bootstrap.

    Each resample draws N items, the same ones for both sides, and S runs of each side. So an effect of
    a seed on all items widens the interval, if a side has at least two runs; with one run per side,
    the interval does not cover seeds. S draws out of S runs underestimate the variance by the factor
    (S - 1) / S, so deviations from the mean are first scaled by the root of its inverse; likewise
    for items.

    Args:
        first_SN: values of each run and item, NaN for an item without one.
        second_SN: values of the other variant; its number of runs may differ.
        resamples: R.
        seed: seed of the draws; equal arguments give equal intervals.

    Returns:
        None when fewer than two items have a value everywhere.
    """
    known_N = np.isfinite(first_SN).all(axis=0) & np.isfinite(second_SN).all(axis=0)
    first_SN, second_SN = first_SN[:, known_N], second_SN[:, known_N]
    count = first_SN.shape[1]
    if count < 2:
        return None
    gap_N = second_SN.mean(axis=0) - first_SN.mean(axis=0)
    mean = float(gap_N.mean())
    generator = np.random.default_rng(seed)
    stacked = np.concatenate([first_SN - first_SN.mean(axis=0), second_SN - second_SN.mean(axis=0)])
    sums = _item_means(np.concatenate([gap_N[None], stacked]), resamples, generator=generator)
    items_R = mean + (sums[:, 0] - mean) * (count / (count - 1)) ** 0.5
    cut = 1 + len(first_SN)
    seeds_R = _run_means(sums[:, cut:], generator) - _run_means(sums[:, 1:cut], generator)
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(items_R + seeds_R, [tail, 100 - tail])
    return Difference(
        mean,
        float(low),
        high=float(high),
        num_items=count,
        num_runs=(len(first_SN), len(second_SN)),
    )


def _item_means(
    values_KN: np.ndarray, resamples: int, *, generator: np.random.Generator
) -> np.ndarray:
    """Return (R, K): the means of K rows over N items drawn with replacement, the same for all."""
    count = values_KN.shape[1]
    rows = max(1, _BLOCK // count)
    means: list[np.ndarray] = []
    for first in range(0, resamples, rows):
        size = min(rows, resamples - first)
        drawn = generator.integers(count, size=(size, count)) + np.arange(size)[:, None] * count
        times = np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count)
        means.append(times @ values_KN.T / count)
    return np.concatenate(means)


def _run_means(deviations_RS: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return (R,): the mean deviation of S runs drawn with replacement, 0 where there is one run."""
    resamples, runs = deviations_RS.shape
    if runs == 1:
        return np.zeros(resamples)
    drawn = generator.integers(runs, size=(resamples, runs))
    wider = (runs / (runs - 1)) ** 0.5
    chosen: np.ndarray = wider * np.take_along_axis(deviations_RS, drawn, axis=1).mean(axis=1)
    return chosen
