"""Which trials a session has: which item, which side is played as 1, and what X is.

The design is a pure function of the seed and of counts. Names, files and audio play no part.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

Mode = Literal["abx", "preference"]
Side = Literal["a", "b"]


@dataclass(frozen=True, slots=True)
class Trial:
    """One trial.

    Attributes:
        item: index of the item.
        first: the side that is played as 1; the other one is 2.
        x: 1 or 2, which of them X is; 0 where there is no X.
    """

    item: int
    first: Side
    x: Literal[0, 1, 2]

    def side(self, which: str) -> Side:
        """Return the side that is played as `which`: 1, 2 or x."""
        is_first = which == "1" or (which == "x" and self.x == 1)
        other: Side = "b" if self.first == "a" else "a"
        return self.first if is_first else other


def design(seed: str, trials: int, *, items: int, mode: Mode) -> tuple[Trial, ...]:
    """Return the trials of a session.

    Items come equally often, in random order. What an answer is held against, X or in preference mode
    the order, is an independent fair coin for each trial: only then is the number of hits of a guessing
    listener binomial, whatever his strategy. If exactly half of these were alike, as is common, a guesser
    who answers 1 and 2 equally often would "hear" a difference in up to 5 % (8 % two-sided) of tests
    of 12 trials instead of 2.5 % (5 %). In ABX mode the order is free to be balanced, and is.
    """
    chance = random.Random(f"sepdash listen {seed}")
    rounds = -(-trials // items)
    order = [item for _ in range(rounds) for item in chance.sample(range(items), items)][:trials]
    firsts: list[Side]
    if mode == "preference":
        firsts = [chance.choice(("a", "b")) for _ in range(trials)]
        return tuple(Trial(item, first, x=0) for item, first in zip(order, firsts, strict=True))
    more: Side = chance.choice(("a", "b"))
    firsts = [*("a", "b") * (trials // 2), *[more] * (trials % 2)]
    chance.shuffle(firsts)
    return tuple(
        Trial(item, first, x=1 if chance.random() < 0.5 else 2)
        for item, first in zip(order, firsts, strict=True)
    )
