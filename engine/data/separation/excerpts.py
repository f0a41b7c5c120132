"""The position of each item in its file: random crops for training, fixed excerpts for validation.

Owns the number of items, their lengths and positions, independent of the kind of data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engine.batching.batch import Split
from engine.config.schema import RunConfig
from engine.item_random import item_generator


@dataclass(frozen=True, slots=True)
class Excerpt:
    """`frames` samples from `start` of file `file`, between `pad_left` and `pad_right` zeros."""

    file: int
    start: int
    frames: int
    pad_left: int = 0
    pad_right: int = 0

    def pad(self, samples_CT: np.ndarray) -> np.ndarray:
        """Put the zeros around (..., frames)."""
        if not self.pad_left and not self.pad_right:
            return samples_CT
        widths = [(0, 0)] * (samples_CT.ndim - 1) + [(self.pad_left, self.pad_right)]
        return np.pad(samples_CT, widths)


class Excerpts:
    """The places of all items of a split.

    Training: a file gives max(1, floor(duration / segment_s)) items in each epoch, each a random
    crop of exactly one segment; shorter files are padded evenly on both sides, or with
    `data.short_files = "whole"` are items of their own length. Validation: a file
    gives one item, the middle of it, at most `validation.segment_s` long and never padded; with
    `validation.max_items` files are left out evenly. Validation does not depend on the seed.
    """

    def __init__(self, lengths: Sequence[int], config: RunConfig, *, split: Split) -> None:
        self._lengths = np.asarray(lengths, dtype=np.int64)
        self._rate_hz = config.audio_data.rate_hz
        self._seed = config.seed
        self._segment = config.audio_data.segment_samples if split == "train" else 0
        self._pads = config.audio_data.short_files == "pad"
        self._longest = max(1, round(config.validation.segment_s * self._rate_hz))
        if split == "train":
            counts = np.maximum(1, self._lengths // self._segment)
            self._files = np.repeat(np.arange(len(lengths)), counts)
        else:
            self._files = _spread(len(lengths), config.validation.max_items)

    def __len__(self) -> int:
        """Return the number of items of an epoch."""
        return len(self._files)

    def durations_s(self) -> np.ndarray:
        """Return (N,) float64, the length of each item in seconds, padding included."""
        if self._segment and self._pads:
            return np.full(len(self), self._segment / self._rate_hz)
        if self._segment:
            return np.minimum(self._lengths[self._files], self._segment) / self._rate_hz
        return np.minimum(self._lengths[self._files], self._longest) / self._rate_hz

    def file(self, index: int) -> int:
        """Return which file an item lies in."""
        return int(self._files[index])

    def locate(self, epoch: int, index: int) -> Excerpt:
        """Return where an item lies."""
        file = self.file(index)
        length = int(self._lengths[file])
        if not self._segment:
            frames = min(length, self._longest)
            return Excerpt(file, (length - frames) // 2, frames=frames)
        if length <= self._segment and not self._pads:
            return Excerpt(file, 0, frames=length)
        if length <= self._segment:
            left = (self._segment - length) // 2
            return Excerpt(
                file, 0, frames=length, pad_left=left, pad_right=self._segment - length - left
            )
        draw = item_generator(self._seed, epoch, index, "crop")
        return Excerpt(file, int(draw.integers(length - self._segment + 1)), frames=self._segment)


def _spread(number: int, most: int) -> np.ndarray:
    if not most or most >= number:
        return np.arange(number)
    return (np.arange(most) * number) // most


class OnExcerpts:
    """What datasets have in common whose items are excerpts: their number and lengths."""

    _excerpts: Excerpts

    def __len__(self) -> int:
        """Return the number of items of an epoch."""
        return len(self._excerpts)

    def durations_s(self) -> np.ndarray:
        """Return (N,) float64, the length of each item in seconds."""
        return self._excerpts.durations_s()
