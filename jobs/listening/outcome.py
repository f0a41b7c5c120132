"""What the answers of a listener show: a share, its interval, and one of a few statements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from jobs.listening.design import Mode
from jobs.listening.intervals import (
    CHANCE,
    LEVEL,
    TARGET,
    anytime_interval,
    exact_interval,
    mean_interval,
)

Finding = Literal["heard", "not heard", "undecided", "below chance"]
Method = Literal["exact", "anytime"]

# A session as planned is judged once by its exact interval, and again, with others, by the one for any
# time. A listener who can't hear may be lucky in both, on one side (ABX) or on two (preference): their
# errors add up to 5 % at most.
LEVELS: Mapping[tuple[Mode, Method], float] = {
    ("abx", "exact"): 0.95,
    ("abx", "anytime"): 0.95,
    ("preference", "exact"): 0.96,
    ("preference", "anytime"): 0.99,
}


@dataclass(frozen=True, slots=True)
class Tally:
    """Answers that are counted together.

    Attributes:
        hits: correct answers, or preferences for A.
        misses: wrong answers, or preferences for B.
        ties: answers without a preference.
        planned: how many trials were planned.
        sessions: from how many sessions they come.
    """

    mode: Mode
    hits: int
    misses: int
    ties: int = 0
    planned: int = 0
    sessions: int = 1

    @property
    def trials(self) -> int:
        """How many trials were answered."""
        return self.hits + self.misses + self.ties

    @property
    def is_as_planned(self) -> bool:
        """Whether this is one session, with exactly the trials that were planned."""
        return self.sessions == 1 and self.trials == self.planned


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a tally shows.

    Attributes:
        finding: heard (in preference mode: one side is preferred), not heard (a listener of 70 % is
            excluded), undecided, or below chance: significantly fewer correct answers than guessing gives.
        share: of the hits among hits and misses; None without any.
        low, high: its interval, of `level`.
        method: exact for a session as planned, anytime for others.
    """

    tally: Tally
    finding: Finding
    share: float | None
    low: float
    high: float
    method: Method

    @property
    def level(self) -> float:
        """The coverage of the interval."""
        return LEVELS[self.tally.mode, self.method]

    @property
    def most_heard(self) -> float:
        """The highest share of trials in which the listener really hears the difference.

        A listener who hears it with probability h, and guesses otherwise, is correct with
        probability h + (1 - h) / 2.
        """
        return max(0.0, 2 * self.high - 1)


def judge(tally: Tally) -> Outcome:
    """Return what a tally shows.

    Ties say nothing about which side is preferred, so the share is that of the others, which is exact
    given their number. That nothing is preferred is concluded from all answers, ties counted as a half.
    """
    decided = tally.hits + tally.misses
    method: Method = "exact" if tally.is_as_planned else "anytime"
    interval = exact_interval if method == "exact" else anytime_interval
    low, high = interval(tally.hits, decided, level=LEVELS[tally.mode, method])
    share = tally.hits / decided if decided else None
    return Outcome(
        tally, _finding(tally, low, high=high), share=share, low=low, high=high, method=method
    )


def _finding(tally: Tally, low: float, *, high: float) -> Finding:
    if tally.mode == "abx":
        if low > CHANCE:
            return "heard"
        if high < CHANCE:
            return "below chance"
        return "not heard" if high < TARGET else "undecided"
    if low > CHANCE or high < CHANCE:
        return "heard"
    if tally.ties:
        interval = mean_interval if tally.is_as_planned else anytime_interval
        score = tally.hits + tally.ties / 2
        low, high = interval(score, tally.trials, level=LEVEL)
    return "not heard" if low > 1 - TARGET and high < TARGET else "undecided"


def pool(tallies: Sequence[Tally]) -> Tally:
    """Return the sum of tallies of the same mode."""
    return Tally(
        tallies[0].mode,
        hits=sum(tally.hits for tally in tallies),
        misses=sum(tally.misses for tally in tallies),
        ties=sum(tally.ties for tally in tallies),
        planned=sum(tally.planned for tally in tallies),
        sessions=sum(tally.sessions for tally in tallies),
    )
