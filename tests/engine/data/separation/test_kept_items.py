"""Items are read once while they fit, and again when they do not."""

from __future__ import annotations

import numpy as np
import pytest

from engine.data.separation.dataset import AudioItem
from engine.data.separation.kept_items import KeptItems


class Counting:
    """Ten items of 400 bytes, each a view of a longer array; counts what is read."""

    def __init__(self) -> None:
        self.reads: list[int] = []

    def item(self, epoch: int, index: int) -> AudioItem:
        assert epoch == 0
        self.reads.append(index)
        whole = np.full((2, 1000), float(index), dtype=np.float32)
        return AudioItem(whole[:1, :50], whole[None, 1:, :50])


@pytest.mark.parametrize(("most_bytes", "kept"), [(0, 0), (399, 0), (1_600, 4), (10**6, 10)])
def test_as_many_as_fit_are_read_once(most_bytes, kept):
    dataset = Counting()
    items = KeptItems(dataset, most_bytes=most_bytes)
    for _ in range(3):
        for index in range(10):
            item = items[index]
            assert item.mix_CT.shape == (1, 50)
            assert item.target_SCT.shape == (1, 1, 50)
            assert (item.target_SCT == index).all()
    rest = list(range(kept, 10))
    assert dataset.reads == [*range(10), *rest, *rest]


def test_what_is_kept_holds_no_more_than_itself():
    items = KeptItems(Counting(), most_bytes=400)
    items[0]
    assert items[0].mix_CT.base is None
    assert items[0].target_SCT.base is None
