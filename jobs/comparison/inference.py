"""Differences between recipes and between trained models, with intervals that hold as often as they say.

Letters: S runs of a variant with different seeds, N items, V variants, R simulated repetitions.

The unit is the trained run. The variance of a difference between two *recipes* has two parts:

- *runs*: the variance of the means of runs, which holds the effect of seeds and the noise of items
  in each run. Unpaired, its degrees of freedom are Welch's; where runs share seeds and sharing pays
  (see `_PAIRING_PAYS`), it is the variance of the differences by seed, with S - 1 degrees.
- *items*: a variant may suit some items better than others, whatever the seed. This is what the gaps
  between items vary beyond the noise that the first part holds already, so that nothing counts twice.

The squares of both half-widths are added, each with the t of its own degrees of freedom. Pooling them to
one number of degrees (Satterthwaite) reads 10 to 12 % false verdicts with two seeds where items
interact with variants; this reads 1 to 7 %. `tests/bench/verdicts.py` has the simulations by which each
choice in this file was made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Of = Literal["recipes", "models"]

LEVEL = 0.95
# A verdict about a recipe with fewer seeds a side is refused, whatever a person asks for.
FEWEST_SEEDS = 2
FEWEST_ITEMS = 10
# Runs are paired by seed where that makes the squared half-width this much smaller: less often, and pairs
# that only seem to pay (three seeds agree by chance now and then) give false verdicts.
_PAIRING_PAYS = 0.5
# Welch's test with two runs a side, one of them much more variable, is wrong in up to 6 % of cases, and 8 %
# with several variants; a stricter level keeps it below 7 %.
_STRICTER_WITH_TWO = 0.85
# Each of several comparisons chooses between pairs and Welch, which the simulated level doesn't know: without
# this factor tables of three to six variants are wrong in up to 8 %, with it in at most 6.3 %.
_STRICTER_WITH_SEVERAL = 0.8
# Two runs against more, and the two more variable: it is wrong in 9 to 12 %, as the degrees of freedom are
# overestimated just where the two happen to agree. With at most so many, below 7 %.
_MOST_FREEDOM_WITH_TWO = 1.5
_REPETITIONS = 4_000
# Means of runs that vary this much less than the noise of their items are tied: one in 1000 by chance.
_TIED = 1e-6
_TINY = np.finfo(float).tiny
_LEAST_T = 1.28


@dataclass(frozen=True, slots=True)
class Sample:
    """The item values of a variant's runs, one run a seed.

    Attributes:
        values_SN: NaN for an item without a value.
        seeds: of the S runs, all different.
    """

    values_SN: np.ndarray
    seeds: tuple[int, ...]

    @property
    def variance(self) -> float:
        """Variance of the mean of a run, in squares of the metric's unit; 0 of a single run."""
        return _variance(self.values_SN.mean(axis=1))


@dataclass(frozen=True, slots=True)
class Estimate:
    """A difference, second minus first, and what its variance is made of.

    Attributes:
        runs_variance, runs_freedom: of the means of runs; 0 between trained models.
        items_variance, items_freedom: of the items beyond that.
        paired: whether runs were paired by seed.
        num_runs: number of runs of the first and of the second.
    """

    mean: float
    runs_variance: float
    runs_freedom: float
    items_variance: float
    items_freedom: float
    paired: bool
    num_items: int
    num_runs: tuple[int, int]

    def half_width(self, alpha: float) -> float:
        """Half of the width of the interval that misses the truth with probability `alpha`."""
        parts = (
            (self.runs_variance, self.runs_freedom),
            (self.items_variance, self.items_freedom),
        )
        return float(sum(t_quantile(df, alpha) ** 2 * variance for variance, df in parts) ** 0.5)


@dataclass(frozen=True, slots=True)
class Difference:
    """The mean of second minus first and its interval, which holds for all of a table at once.

    Attributes:
        of: what differs: two recipes, or two (sets of) trained models on these items.
        alpha: probability that this interval alone misses the truth; 5 % shared among the comparisons.
        paired: whether runs were paired by seed.
        num_items: items with a value in all runs.
        num_runs: number of runs of the first and of the second.
    """

    mean: float
    low: float
    high: float
    of: Of
    alpha: float
    paired: bool
    num_items: int
    num_runs: tuple[int, int]

    @property
    def is_shown(self) -> bool:
        """Whether there is a difference: enough items, and an interval without 0."""
        return self.num_items >= FEWEST_ITEMS and (self.low > 0 or self.high < 0)

    def is_within(self, margin: float) -> bool:
        """Whether the whole interval is too close to 0 to count."""
        return -margin <= self.low and self.high <= margin


def compared(
    samples: Sequence[Sample], pairs: Sequence[tuple[int, int]], *, of: Of
) -> list[tuple[Estimate, Difference]]:
    """Compare pairs of variants; with a chance of 95 %, all intervals hold the truth at once.

    Args:
        samples: of V variants, with at least two items that have a value in all of their runs; of
            recipes, with at least two runs each.
        pairs: places of the first and the second variant of each comparison.
        of: what differs. Between trained models, runs are averaged and only items are uncertain.
    """
    known_N = _is_common(samples)
    samples = [Sample(sample.values_SN[:, known_N], sample.seeds) for sample in samples]
    alone = _sidak(len(pairs))
    shared = alone
    if of == "recipes":
        several = _STRICTER_WITH_SEVERAL if len(pairs) > 1 else 1.0
        alone, shared = alone * several, _shared_alpha(samples, pairs) * several
    results = []
    for first, second in pairs:
        if of == "models":
            estimate = _between_models(samples[first], samples[second])
        else:
            estimate = _between_recipes(samples[first], samples[second])
        # A paired test is exact, so its share needs no simulation.
        alpha = alone if estimate.paired else shared
        results.append((estimate, _with_interval(estimate, alpha, of=of)))
    return results


def _with_interval(estimate: Estimate, alpha: float, *, of: Of) -> Difference:
    half = estimate.half_width(alpha)
    return Difference(
        estimate.mean, estimate.mean - half, high=estimate.mean + half, of=of, alpha=alpha,
        paired=estimate.paired, num_items=estimate.num_items, num_runs=estimate.num_runs,
    )  # fmt: skip


def t_quantile(freedom: float, alpha: float) -> float:
    """Return the two-sided quantile of Student's t."""
    # Here: a worker loads this file at its start, and scipy takes longer to load than all else.
    from scipy.special import stdtrit

    return float(stdtrit(max(freedom, 1.0), 1 - alpha / 2))


def num_common_items(samples: Sequence[Sample]) -> int:
    """Return how many items have a value in every run of every sample."""
    return int(_is_common(samples).sum())


def _is_common(samples: Sequence[Sample]) -> np.ndarray:
    known_N: np.ndarray = np.logical_and.reduce(
        [np.isfinite(sample.values_SN).all(axis=0) for sample in samples]
    )
    return known_N


def _between_recipes(first: Sample, second: Sample) -> Estimate:
    """Estimate the difference of two recipes, of at least two runs and two items each."""
    apart = _unpaired(first, second)
    if set(first.seeds) != set(second.seeds):
        # A choice between all runs and those that share a seed would be one more chance to be wrong.
        return apart
    together = _paired(first, _of_seeds(second, first.seeds))
    count = len(first.seeds) + len(second.seeds)
    unpaired = t_quantile(count - 2, 0.05) ** 2 * apart.runs_variance
    paired = t_quantile(together.runs_freedom, 0.05) ** 2 * together.runs_variance
    return together if paired <= _PAIRING_PAYS * unpaired else apart


def _between_models(first: Sample, second: Sample) -> Estimate:
    """Estimate the difference of trained models over items like these; another seed is another model."""
    gap_N = second.values_SN.mean(axis=0) - first.values_SN.mean(axis=0)
    count = len(gap_N)
    return Estimate(
        float(gap_N.mean()), 0.0, runs_freedom=1.0, items_variance=_variance(gap_N) / count,
        items_freedom=count - 1, paired=False, num_items=count,
        num_runs=(len(first.seeds), len(second.seeds)),
    )  # fmt: skip


def _sidak(comparisons: int) -> float:
    """Return the level of each of several comparisons that share 5 %."""
    return float(1 - LEVEL ** (1 / max(1, comparisons)))


def _shared_alpha(samples: Sequence[Sample], pairs: Sequence[tuple[int, int]]) -> float:
    """Return the level of each comparison of recipes at which all of `pairs` share 5 %.

    Comparisons with one reference are correlated (Dunnett), those of all pairs likewise (Tukey). By how
    much depends on the spreads, which may differ, so it is simulated: Welch's test on R sets of runs
    without any difference, that have the measured spreads. Never above 5 %; paired tests take
    `_sidak`.

    Args:
        samples: of V variants, at least two runs each.
        pairs: places of the two variants of each comparison.
    """
    from scipy.special import stdtr

    size_V = np.array([len(sample.seeds) for sample in samples], dtype=float)
    variance_V = np.array([sample.variance for sample in samples])
    stricter = _STRICTER_WITH_TWO if size_V.min() <= FEWEST_SEEDS else 1.0
    if len(pairs) == 1 and stricter < 1:
        return (1 - LEVEL) * stricter
    if not (variance_V > 0).any():
        return _sidak(len(pairs)) * stricter
    generator = np.random.default_rng(0)
    shape = (_REPETITIONS, len(samples))
    mean_RV = np.sqrt(variance_V / size_V) * generator.normal(size=shape)
    variance_RV = variance_V * generator.chisquare(size_V - 1, size=shape) / (size_V - 1)
    part_RV = variance_RV / size_V
    square_RV = part_RV**2 / (size_V - 1)
    smallest_R = np.ones(_REPETITIONS)
    for first, second in pairs:
        total_R = part_RV[:, first] + part_RV[:, second]
        t_R = np.abs(mean_RV[:, second] - mean_RV[:, first]) / np.sqrt(total_R + _TINY)
        # Only the smallest probabilities matter, and none below 0.2 has a smaller t than that.
        far = t_R > _LEAST_T
        freedom = total_R[far] ** 2 / (square_RV[far, first] + square_RV[far, second] + _TINY)
        most = _most_freedom(size_V[first], size_V[second])
        p = 2 * stdtr(np.clip(freedom, 1.0, most), -t_R[far])
        smallest_R[far] = np.minimum(smallest_R[far], p)
    level = float(np.quantile(smallest_R, 1 - LEVEL))
    if stricter < 1:
        level = min(level, _sidak(len(pairs))) * stricter
    return min(level, 1 - LEVEL)


def _unpaired(first: Sample, second: Sample) -> Estimate:
    sizes = len(first.seeds), len(second.seeds)
    parts = [sample.variance / size for sample, size in zip((first, second), sizes, strict=True)]
    total = sum(parts)
    squares = sum(part**2 / (size - 1) for part, size in zip(parts, sizes, strict=True))
    freedom = total**2 / squares if squares > 0 else sum(sizes) - 2.0
    freedom = min(freedom, _most_freedom(*sizes))
    noise = sum(
        _noise(sample.values_SN) / size for sample, size in zip((first, second), sizes, strict=True)
    )
    gap_N = second.values_SN.mean(axis=0) - first.values_SN.mean(axis=0)
    return _estimate(gap_N, (total, freedom), noise=noise, paired=False, num_runs=sizes)


def _most_freedom(first: float, second: float) -> float:
    two_against_more = min(first, second) <= FEWEST_SEEDS < max(first, second)
    return _MOST_FREEDOM_WITH_TWO if two_against_more else first + second - 2


def _paired(first: Sample, second: Sample) -> Estimate:
    gap_SN = second.values_SN - first.values_SN
    size = len(gap_SN)
    runs = _variance(gap_SN.mean(axis=1)) / size, size - 1.0
    return _estimate(
        gap_SN.mean(axis=0), runs, noise=_noise(gap_SN) / size, paired=True, num_runs=(size, size)
    )


def _estimate(
    gap_N: np.ndarray,
    runs: tuple[float, float],
    *,
    noise: float,
    paired: bool,
    num_runs: tuple[int, int],
) -> Estimate:
    """Add the part of the items: what their gaps vary beyond the noise that the runs hold already.

    Error counts are discrete, so runs whose items differ may tie in their means; their variance is
    that of the noise then, not 0.
    """
    count = len(gap_N)
    tied = runs[0] < _TIED * noise / count
    return Estimate(
        float(gap_N.mean()), noise / count if tied else runs[0], runs_freedom=runs[1],
        items_variance=max(0.0, _variance(gap_N) - noise) / count, items_freedom=count - 1,
        paired=paired, num_items=count, num_runs=num_runs,
    )  # fmt: skip


def _noise(values_SN: np.ndarray) -> float:
    """Variance of an item in a run, beyond the effects of the item and of the run."""
    runs, items = values_SN.shape
    rest_SN = (
        values_SN
        - values_SN.mean(axis=0)
        - values_SN.mean(axis=1, keepdims=True)
        + values_SN.mean()
    )
    return float((rest_SN**2).sum() / ((runs - 1) * (items - 1)))


def _of_seeds(sample: Sample, seeds: Sequence[int]) -> Sample:
    places = [sample.seeds.index(seed) for seed in seeds]
    return Sample(sample.values_SN[places], tuple(seeds))


def _variance(values: np.ndarray) -> float:
    return float(values.var(ddof=1)) if len(values) > 1 else 0.0
