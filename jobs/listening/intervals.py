"""Intervals for a share of answers, and how many trials a test needs.

A session of a number of trials that was fixed in advance gets the exact interval of Clopper and Pearson
(1934): its coverage is at least the promised one for every share and every number of trials, which the
mid-p interval is not. Anything else, such as a session that was stopped early or several sessions of a
listener, gets an interval that holds at every number of trials at once, so that looking at it and going
on is no error (a mixture martingale; Robbins, 1970; Waudby-Smith and Ramdas, 2024).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

from scipy.special import bdtrc, betaincinv, betaln, xlog1py, xlogy

LEVEL = 0.95
CHANCE = 0.5
# The listener a test is planned for: answers correctly in 70 % of the trials.
TARGET = 0.7
POWER = 0.8


def exact_interval(count: int, trials: int, *, level: float = LEVEL) -> tuple[float, float]:
    """Return the interval of Clopper and Pearson for a share, from `count` of `trials`."""
    tail = (1 - level) / 2
    low = betaincinv(count, trials - count + 1, tail) if count else 0.0
    high = betaincinv(count + 1, trials - count, 1 - tail) if count < trials else 1.0
    return float(low), float(high)


def mean_interval(total: float, trials: int, *, level: float = LEVEL) -> tuple[float, float]:
    """Return an interval for the mean of scores of 0, 1/2 and 1, from the sum of `trials` of them.

    That of Clopper and Pearson, rounded outwards: such scores spread less than answers of 0 and 1 with the
    same mean (a test computes the coverage over all shares of ties).
    """
    low, _ = exact_interval(math.floor(total), trials, level=level)
    _, high = exact_interval(math.ceil(total), trials, level=level)
    return low, high


def anytime_interval(total: float, trials: int, *, level: float = LEVEL) -> tuple[float, float]:
    """Return an interval for the mean of scores between 0 and 1 that holds at every stopping time.

    The likelihood ratio of a uniform mixture against a share p is a martingale for answers with share p,
    and a supermartingale for scores between 0 and 1 with that mean; by Ville's inequality it ever exceeds
    1 / (1 - level) with a probability of 1 - level at most.
    """
    mixture = betaln(total + 1, trials - total + 1)
    limit = -math.log(1 - level)

    def inside(share: float) -> bool:
        return bool(mixture - xlogy(total, share) - xlog1py(trials - total, -share) < limit)

    return _around(total, trials, inside=inside)


@functools.cache
def needed_correct(trials: int, level: float = LEVEL) -> int:
    """Return how many of `trials` must be hits so that the exact interval excludes chance."""
    for count in range(trials // 2, trials + 1):
        if upper_tail(count, trials, share=CHANCE) < (1 - level) / 2:
            return count
    return trials + 1


@functools.cache
def needed_trials(level: float = LEVEL) -> int:
    """Return the smallest number of trials in which a listener of `TARGET` is found with `POWER`."""
    trials = 1
    while upper_tail(needed_correct(trials, level), trials, share=TARGET) < POWER:
        trials += 1
    return trials


def upper_tail(count: int, trials: int, *, share: float) -> float:
    """Return the probability of `count` or more of `trials`."""
    return float(bdtrc(count - 1, trials, share))


def _around(total: float, trials: int, *, inside: Callable[[float], bool]) -> tuple[float, float]:
    """Return the ends of the interval around the observed share whose shares are `inside`."""
    if not trials:
        return 0.0, 1.0
    mean = total / trials
    low = 0.0 if inside(0.0) else _bisect(0.0, mean, right=inside)
    high = 1.0 if inside(1.0) else _bisect(mean, 1.0, right=lambda p: not inside(p))
    return low, high


def _bisect(low: float, high: float, *, right: Callable[[float], bool]) -> float:
    """Return the border between the shares that are not `right`, below, and those that are."""
    for _ in range(60):
        middle = (low + high) / 2
        if right(middle):
            high = middle
        else:
            low = middle
    return (low + high) / 2
