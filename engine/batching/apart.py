"""Items that should not meet in one update: the pieces of one utterance, and an item of two epochs.

They are equally long, so where an update takes items of like length they would all meet in it. Owns how
they are spread over the updates around. Letters: G items of several updates, N of the data.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

_PASSES = 4
# Of so many items of an update one may be of a group; at least one.
_ONE_IN = 32


def apart(updates: list[np.ndarray], size_G: np.ndarray, *, group_G: np.ndarray) -> None:
    """Swap items of updates, in place, until those of a group are spread as far as they can be.

    An item that meets another of its group changes places with one of the nearest update that has room for
    its group, if that one is no worse off in its place; of several with the one that is most like it in
    size. So updates keep their numbers of items, and items move as little as they can.

    Args:
        updates: the items of each, as numbers from 0 to G - 1; updates in order of size.
        size_G: what updates are of like items of.
        group_G: the group of each item.
    """
    pool = _Pool([update.tolist() for update in updates], size_G.tolist(), group_G=group_G.tolist())
    # What has no partner at first may have one once others have moved.
    for _ in range(_PASSES):
        if not pool.swap_all():
            break
    for update, row in zip(updates, pool.rows, strict=True):
        update[:] = row


class _Pool:
    """Updates whose items change places."""

    def __init__(self, rows: list[list[int]], sizes: list[float], *, group_G: list[int]) -> None:
        self.rows = rows
        self._sizes, self._groups = sizes, group_G
        self._counts = [Counter(group_G[item] for item in row) for row in rows]
        # One in each update. In large ones a few do no harm, and would cost packing: with one alone, updates
        # of 190 pieces of long recordings lost 14 % of their audio to crops, not 2 %.
        few = max(1, len(group_G) // len(rows) // _ONE_IN)
        self._most = {
            group: max(few, -(-count // len(rows))) for group, count in Counter(group_G).items()
        }

    def swap_all(self) -> bool:
        """Let every item that is one too many change places if it can; return whether one could."""
        swaps = sum(
            self._swapped(number, place)
            for number, row in enumerate(self.rows)
            for place in range(len(row))
        )
        return swaps > 0

    def _swapped(self, number: int, place: int) -> bool:
        item = self.rows[number][place]
        group = self._groups[item]
        if self._counts[number][group] <= self._most[group]:
            return False
        for other in _nearest(number, len(self.rows)):
            if self._counts[other][group] >= self._most[group]:
                continue
            partner = self._partner(item, number, other=other)
            if partner is not None:
                self._put(number, place, item=self.rows[other][partner])
                self._put(other, partner, item=item)
                return True
        return False

    def _partner(self, item: int, number: int, *, other: int) -> int | None:
        """Return the place of what is most like an item, of those of another update that are no worse off."""
        row, here, there = self.rows[other], self._counts[number], self._counts[other]
        found = [
            place
            for place, one in enumerate(row)
            if here[self._groups[one]] < there[self._groups[one]]
        ]
        return min(
            found, key=lambda place: abs(self._sizes[row[place]] - self._sizes[item]), default=None
        )

    def _put(self, number: int, place: int, *, item: int) -> None:
        counts = self._counts[number]
        counts[self._groups[self.rows[number][place]]] -= 1
        counts[self._groups[item]] += 1
        self.rows[number][place] = item


def _nearest(number: int, count: int) -> Iterator[int]:
    """Yield the other updates, the nearest first."""
    for distance in range(1, count):
        for other in (number + distance, number - distance):
            if 0 <= other < count:
                yield other
