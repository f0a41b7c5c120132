"""Word and character error rates, with a breakdown of the errors. Free of torch.

A rate is edits over the length of the reference, both summed over all utterances (Levenshtein, 1966);
this differs from the mean of the rates per utterance. Letters: R reference, H hypothesis units.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import numpy as np

Unit = Literal["words", "characters"]


@dataclass(frozen=True, slots=True)
class EditCounts:
    """Numbers of hits, substitutions, deletions and insertions."""

    hits: int = 0
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0

    @property
    def edits(self) -> int:
        """All errors."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def length(self) -> int:
        """Units of the reference."""
        return self.hits + self.substitutions + self.deletions

    @property
    def rate(self) -> float:
        """Errors over the length of the reference; NaN where the reference is empty."""
        return self.edits / self.length if self.length else float("nan")

    def __add__(self, other: EditCounts) -> EditCounts:
        """Return the sums."""
        return EditCounts(
            self.hits + other.hits,
            self.substitutions + other.substitutions,
            deletions=self.deletions + other.deletions,
            insertions=self.insertions + other.insertions,
        )


@dataclass(slots=True)
class ErrorBreakdown:
    """Errors of many utterances: counts per utterance, and which unit was confused with which.

    Attributes:
        unit: what is counted.
        items: counts of each utterance, in the order they were added.
        confusions: (reference, hypothesis) -> times; None stands for nothing: a deletion has no
            hypothesis, an insertion no reference.
    """

    unit: Unit
    items: list[EditCounts] = field(default_factory=list)
    confusions: Counter[tuple[str | None, str | None]] = field(default_factory=Counter)

    def add(self, reference: str, hypothesis: str) -> EditCounts:
        """Compare two texts, count, and return the counts of this utterance."""
        pairs = align(split(reference, self.unit), split(hypothesis, self.unit))
        counts = _count(pairs)
        self.items.append(counts)
        self.confusions.update(pair for pair in pairs if pair[0] != pair[1])
        return counts

    @property
    def total(self) -> EditCounts:
        """Counts over all utterances."""
        return sum(self.items, EditCounts())

    def per_item(self) -> np.ndarray:
        """Return (N,) float64 whose mean is the rate over all: edits over the mean reference length.

        All NaN where there is no reference at all.
        """
        mean_length = self.total.length / max(1, len(self.items))
        edits_N = np.array([item.edits for item in self.items], dtype=np.float64)
        return edits_N / mean_length if mean_length else np.full(len(edits_N), np.nan)

    def most_frequent(self, count: int) -> list[tuple[str | None, str | None, int]]:
        """Return (reference, hypothesis, times) of the most frequent errors, most frequent first."""
        ranked = sorted(self.confusions.items(), key=lambda item: (-item[1], _spelled(item[0])))
        return [(*pair, times) for pair, times in ranked[:count]]


def split(text: str, unit: Unit) -> list[str]:
    """Return the words of a text, or its characters, spaces included, each run of them once."""
    words = text.split()
    return words if unit == "words" else list(" ".join(words))


def align(
    reference: Sequence[str], hypothesis: Sequence[str]
) -> list[tuple[str | None, str | None]]:
    """Return the pairs of a shortest sequence of edits, in order; None stands for nothing.

    Of several shortest ones that with substitutions as late as possible is taken, always the same.
    """
    cost = _costs(reference, hypothesis)
    pairs: list[tuple[str | None, str | None]] = []
    r, h = len(reference), len(hypothesis)
    while r or h:
        here = cost[r, h]
        if r and h and here == cost[r - 1, h - 1] + (reference[r - 1] != hypothesis[h - 1]):
            r, h = r - 1, h - 1
            pairs.append((reference[r], hypothesis[h]))
        elif r and here == cost[r - 1, h] + 1:
            r -= 1
            pairs.append((reference[r], None))
        else:
            h -= 1
            pairs.append((None, hypothesis[h]))
    return pairs[::-1]


def _costs(reference: Sequence[str], hypothesis: Sequence[str]) -> np.ndarray:
    """Return (R + 1, H + 1): fewest edits between the first r and the first h units.

    A row at a time: an insertion costs 1 a step, so its best start is a running minimum.
    """
    steps = np.arange(len(hypothesis) + 1)
    numbers: dict[str, int] = {}
    number = partial(_number, numbers)
    hyp = np.array([number(unit) for unit in hypothesis], dtype=np.int64)
    cost = np.empty((len(reference) + 1, len(hypothesis) + 1), dtype=np.int64)
    cost[0] = steps
    for r, unit in enumerate(reference, start=1):
        row = cost[r - 1] + 1
        row[1:] = np.minimum(row[1:], cost[r - 1, :-1] + (hyp != number(unit)))
        cost[r] = np.minimum.accumulate(row - steps) + steps
    return cost


def _number(numbers: dict[str, int], unit: str) -> int:
    return numbers.setdefault(unit, len(numbers))


def _count(pairs: Sequence[tuple[str | None, str | None]]) -> EditCounts:
    kinds = Counter(_kinds(pairs))
    return EditCounts(
        kinds["hit"],
        kinds["substitution"],
        deletions=kinds["deletion"],
        insertions=kinds["insertion"],
    )


def _kinds(pairs: Sequence[tuple[str | None, str | None]]) -> Iterator[str]:
    for reference, hypothesis in pairs:
        if reference == hypothesis:
            yield "hit"
        elif hypothesis is None:
            yield "deletion"
        else:
            yield "insertion" if reference is None else "substitution"


def _spelled(pair: tuple[str | None, str | None]) -> tuple[str, str]:
    return pair[0] or "", pair[1] or ""
