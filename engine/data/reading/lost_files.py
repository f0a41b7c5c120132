"""Items whose files vanished or broke in the middle of a run: their micro-batches come without them.

Owns which errors mean that, and how often it may happen; a run's plan stays as it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from soundfile import LibsndfileError

from engine.batching.batch import Batch
from engine.batching.items import ItemDraw, MicroBatch
from engine.config.errors import DataError, Problem

Fetch = Callable[[MicroBatch], Batch]

# Of a file that can't be read. A defect of our own is none of them.
LOST = (DataError, OSError, EOFError, LibsndfileError)
# Neighbours that are tried in place of a micro-batch of which nothing can be read.
_NEIGHBOURS = 8
# More files than this share of the items, and than this number, are no accident of some files.
_MOST_SHARE, _MOST = 0.01, 10


def fetch_readable(fetch: Fetch, micro_batch: MicroBatch) -> Batch:
    """Fetch a micro-batch, without the items that can't be read; `Batch.lost` says why not.

    Losses are sums over items, divided by the weight of the update, so the others count as ever. Where
    nothing is left, an item near by takes the place: a batch can't be empty.

    Raises:
        DataError: where no item near by can be read, either; and any other error than those in `LOST`.
    """
    try:
        return fetch(micro_batch)
    except LOST as error:
        first = error
    readable, lost = [], []
    for draw in micro_batch.draws:
        try:
            fetch(replace(micro_batch, draws=(draw,)))
        except LOST as error:
            lost.append(_text(error))
        else:
            readable.append(draw)
    if readable:
        return replace(fetch(replace(micro_batch, draws=tuple(readable))), lost=tuple(lost))
    for draw in _near(micro_batch.draws[0]):
        try:
            return replace(fetch(replace(micro_batch, draws=(draw,))), lost=tuple(lost))
        except (*LOST, IndexError):
            continue
    raise first


def _near(draw: ItemDraw) -> Iterator[ItemDraw]:
    for distance in range(1, _NEIGHBOURS + 1):
        index = draw.index - distance if draw.index >= distance else draw.index + distance
        yield replace(draw, index=index)


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__


class LostFiles:
    """What of the training data could not be read so far, in this process.

    Args:
        num_items: of the training data.
    """

    def __init__(self, num_items: int) -> None:
        self._limit = max(_MOST, round(_MOST_SHARE * num_items))
        self._counts: Counter[str] = Counter()

    def notices(self, batches: Sequence[Batch]) -> list[str]:
        """Count what these batches lack; return what to tell the user: of each file at the 1st, 10th, 100th time."""
        told = []
        for text in [text for batch in batches for text in batch.lost]:
            self._counts[text] += 1
            count = self._counts[text]
            if count in {10**power for power in range(12)}:
                times = "" if count == 1 else f", {count} times so far"
                told.append(f"{text}; skipped{times}")
        return told

    def require_few(self) -> None:
        """Check that they are few.

        Raises:
            DataError: when they are more than 10 and more than 1 % of the items.
        """
        if len(self._counts) > self._limit:
            latest = next(reversed(self._counts))
            text = (
                f"{len(self._counts)} training items could not be read, at last: {latest}; the run was saved. "
                "Make the files readable, then `sepdash resume` it"
            )
            raise DataError([Problem("", text)])
