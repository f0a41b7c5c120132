"""Validation items kept in memory, so that only the first evaluation reads and resamples files."""

from __future__ import annotations

from engine.data.separation.dataset import AudioItem, Dataset

# Ten minutes of stereo items at 44.1 kHz with four stems, or 46 of mono speech at 48 kHz.
MOST_BYTES = 2**30


class KeptItems:
    """Items 0, 1, 2, ... of a dataset; the first ones are kept, up to `most_bytes`.

    Items are read in order again and again, so evicting the oldest would always evict the next one
    needed. Kept items therefore stay, and items that do not fit are read again.
    """

    def __init__(self, dataset: Dataset, *, most_bytes: int = MOST_BYTES) -> None:
        self._dataset = dataset
        self._room = most_bytes
        self._kept: dict[int, AudioItem] = {}

    def __getitem__(self, index: int) -> AudioItem:
        """Return an item; the caller must not modify it."""
        if index in self._kept:
            return self._kept[index]
        item = self._dataset.item(0, index)
        size = item.mix_CT.nbytes + item.target_SCT.nbytes
        if size <= self._room:
            # Copies: an item may be a view of a longer read.
            item = AudioItem(item.mix_CT.copy(), item.target_SCT.copy())
            self._room -= size
            self._kept[index] = item
        return item
