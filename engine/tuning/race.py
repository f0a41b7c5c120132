"""A race between setups: all are timed in turn, round by round, and the slow ones leave early.

One table decides: paired log ratios of times in the same rounds, so that other load on the machine, which
affects neighbours alike, cancels. Trimmed means (Tukey and McLaughlin, 1963) keep an occasional spike from
widening an interval. `tests/bench/tuning.py` measures how often a race is wrong. Free of torch and clocks.

Letters: R rounds, K setups.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp, inf, log, sqrt

import numpy as np

# Speed-up below which a difference is ignored: the setup that comes first in the order is preferred.
WORTH = 1.02
# One-sided, shared by the comparisons of a race; halved because intervals are looked at more than once.
_ALPHA, _LOOKS = 0.05, 2
_FIRST_LOOK, _GROWTH = 4, 1.5
_TRIM, _TRIM_FROM = 0.2, 10


@dataclass(frozen=True, slots=True)
class Ratio:
    """The speed of one setup over another: estimate and interval; `rounds` timed both."""

    middle: float
    low: float
    high: float
    rounds: int

    def times(self, other: Ratio) -> Ratio:
        """Return the product with an independent ratio."""
        middle = self.middle * other.middle
        rounds = min(self.rounds, other.rounds)
        if not self.low or not other.low:
            return Ratio(middle, 0.0, inf, rounds)
        down = _norm(log(self.middle / self.low), log(other.middle / other.low))
        up = _norm(log(self.high / self.middle), log(other.high / other.middle))
        return Ratio(middle, middle * exp(-down), middle * exp(up), rounds)


UNIT = Ratio(1.0, 1.0, 1.0, 10**9)


@dataclass(frozen=True, slots=True)
class Choice:
    """The setup that a race chooses, by its index; `settled` is false where rounds did not suffice."""

    index: int
    settled: bool


class Race:
    """The times of K setups, and which of them can still be chosen.

    Preferred are the reference, then the others in their order: a later one must be faster by what is
    `WORTH` it. A setup leaves when another is shown to be faster, or when no such gain over a preferred
    one is possible any more. One that replaces the reference is always shown to be faster than it.

    Args:
        num: K.
        reference: the setup that the others are compared with; None: there is none.
        may_keep: the reference can be chosen; otherwise it is only timed.
    """

    def __init__(self, num: int, *, reference: int | None, may_keep: bool = True) -> None:
        self.times: list[list[float]] = [[] for _ in range(num)]
        self.active = list(range(num))
        self.rounds = 0
        self._reference = reference
        self._may_keep = may_keep
        self._next_look = _FIRST_LOOK
        # What left because it is not faster than a preferred one by what is worth it.
        self._behind: list[list[int]] = [[] for _ in range(num)]
        self._alpha = _ALPHA / _LOOKS / max(1, num - 1)

    def add(self, index: int, seconds: float) -> None:
        """Add the time of a setup in the current round."""
        self.times[index].append(seconds)

    def leave(self, index: int) -> None:
        """Take a setup out that can't be timed."""
        if index in self.active:
            self.active.remove(index)

    def end_round(self, *, last: bool = False) -> None:
        """End a round; compare at growing intervals, and after the last one."""
        self.rounds += 1
        if self.rounds >= self._next_look or last:
            self._next_look = max(self.rounds + 1, int(self.rounds * _GROWTH))
            self._eliminate()

    @property
    def is_over(self) -> bool:
        """Whether more rounds would change nothing."""
        left = set(self.active) - (set() if self._may_keep else {self._reference})
        return not self.active or (self.rounds >= _FIRST_LOOK and len(left) < 2)

    def order(self) -> list[int]:
        """Return the active setups in the order in which a round times them: every other one backwards."""
        return self.active if self.rounds % 2 == 0 else self.active[::-1]

    def ratio(self, one: int, other: int) -> Ratio:
        """Return the speed of `one` over `other`; unknown bounds are 0 and infinite."""
        return compare_times(self.times[one], self.times[other], alpha=self._alpha)

    def choice(self) -> Choice | None:
        """Return what is chosen; None when nothing was timed that may be."""
        left = [i for i in self._preferred() if self.times[i]]
        if len(left) < 2:
            return Choice(left[0], settled=self.rounds >= _FIRST_LOOK) if left else None
        first = self._reference if self._keeps(left) else None
        if first is not None:
            left = [i for i in left if i != first and self.ratio(i, first).low > 1]
            if not left:
                return Choice(first, settled=False)
        fastest = max(left, key=lambda i: self.ratio(i, left[0]).middle if i != left[0] else 1.0)
        return Choice(fastest, settled=False)

    def _keeps(self, left: Sequence[int]) -> bool:
        return self._may_keep and self._reference in left

    def _preferred(self) -> list[int]:
        """Return the active setups that can be chosen, preferred ones first."""
        others = [i for i in self.active if i != self._reference]
        if self._may_keep and self._reference is not None and self._reference in self.active:
            return [self._reference, *others]
        return others

    def _eliminate(self) -> None:
        left = self._preferred()
        for place, later in list(enumerate(left))[::-1]:
            # Small gains must not add up: what left in favour of this one is compared, too.
            all_of_it = [later, *self._behind[later]]
            for one in left[:place]:
                if all(self.ratio(each, one).high < WORTH for each in all_of_it):
                    self._behind[one] += all_of_it
                    self._drop(later, left)
                    break
        for one in list(left):
            if any(self.ratio(other, one).low > 1 for other in left if other != one):
                self._drop(one, left)
        self._release_reference(left)

    def _drop(self, index: int, left: list[int]) -> None:
        if index == self._reference and any(
            self.ratio(other, index).low <= 1 for other in left if other != index
        ):
            # The others still have to be shown to be faster.
            return
        left.remove(index)
        self.active.remove(index)

    def _release_reference(self, left: Sequence[int]) -> None:
        """Stop timing a reference that can't be chosen, once it is known where the others stand."""
        place = self._reference
        if self._may_keep or place is None or place not in self.active:
            return
        ratios = [self.ratio(other, place) for other in left]
        if all(ratio.low > 1 or ratio.high < 1 for ratio in ratios):
            self.active.remove(place)


def run_race(
    race: Race,
    *,
    measure: Callable[[int], float | None],
    clock: Callable[[], float],
    limit_s: float,
    report: Callable[[list[tuple[int, float]]], None],
) -> None:
    """Run rounds until nothing would change any more, or the time is over.

    Args:
        race: where times go.
        measure: times one setup; None: it can't be timed.
        clock: seconds.
        limit_s: time for all rounds; the current one may exceed it.
        report: called with setups and seconds of each round.
    """
    started = clock()
    while not race.is_over:
        times = []
        for index in list(race.order()):
            seconds = measure(index)
            if seconds is None:
                race.leave(index)
            else:
                race.add(index, seconds)
                times.append((index, seconds))
        report(times)
        late = clock() - started >= limit_s
        race.end_round(last=late)
        if late:
            return


def replay(
    times: Sequence[Sequence[float]], *, reference: int | None, may_keep: bool = True
) -> Race:
    """Return the race that produced these times, one sequence a setup; empty: it could not be timed."""
    race = Race(len(times), reference=reference, may_keep=may_keep)
    most = max((len(one) for one in times), default=0)
    for number in range(most):
        for index, one in enumerate(times):
            if number < len(one):
                race.add(index, one[number])
            elif index in race.active:
                race.leave(index)
        race.end_round(last=number == most - 1)
    for index, one in enumerate(times):
        if not one:
            race.leave(index)
    return race


def compare_times(one: Sequence[float], other: Sequence[float], *, alpha: float) -> Ratio:
    """Return the speed of `one` over `other` from the rounds that timed both.

    Args:
        one: seconds in each round.
        other: the same; the shorter one decides how many rounds count.
        alpha: probability that a bound of the interval is wrong, each.
    """
    rounds = min(len(one), len(other))
    if not rounds:
        return Ratio(0.0, 0.0, inf, 0)
    logs_R = np.log(np.asarray(other[:rounds])) - np.log(np.asarray(one[:rounds]))
    middle, half = trimmed_interval(logs_R, alpha)
    return Ratio(exp(middle), exp(middle - half), exp(middle + half) if half < inf else inf, rounds)


def trimmed_interval(values_R: np.ndarray, alpha: float) -> tuple[float, float]:
    """Return the trimmed mean and the half-width of its interval; infinite below four values."""
    from scipy.special import stdtrit

    count = len(values_R)
    cut = int(_TRIM * count) if count >= _TRIM_FROM else 0
    ordered_R = np.sort(values_R)
    middle = float(ordered_R[cut : count - cut].mean())
    if count < _FIRST_LOOK:
        return middle, inf
    kept = count - 2 * cut
    winsorized_R = np.clip(ordered_R, ordered_R[cut], ordered_R[count - cut - 1])
    error = sqrt(float(((winsorized_R - winsorized_R.mean()) ** 2).sum()) / (kept * (kept - 1)))
    return middle, float(stdtrit(kept - 1, 1 - alpha)) * error


def _norm(one: float, other: float) -> float:
    return sqrt(one * one + other * other)
