"""Waveforms of audio without texts as batches: normalised, then cropped to one length or padded.

Shared by recipes of pre-training and of codecs. The length of a crop is the plan's, its place is
drawn by (seed, epoch, item), so neither depends on how an update is split. Letters: B batch, T samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from engine.audio.waveform import normalised
from engine.batching.batch import Batch, Split
from engine.batching.items import ItemDraw, MicroBatch
from engine.config.unlabelled import UnlabelledData
from engine.item_random import item_generator


class Waveforms(Protocol):
    """Items of audio: `engine.data.unlabelled.dataset.UnlabelledDataset`."""

    def __len__(self) -> int:
        """Return the number of items."""

    def num_samples(self, index: int) -> int:
        """Return the length of an item in samples."""

    def audio(self, index: int, *, start: int = 0, frames: int | None = None) -> np.ndarray:
        """Read an item or a part of it, float32 (T,)."""


def read_waveforms(
    dataset: Waveforms, micro_batch: MicroBatch, *, data: UnlabelledData, split: Split, seed: int
) -> Batch:
    """Read `wave` (B, T) float32, `length` (B,) and `first_frame` (B,), both int64.

    With `data.fit = "crop"`, T is the plan's length, a multiple of `data.hop`, and no item is padded;
    `first_frame` counts the hops of `data.hop` samples before the crop. With "pad" every item is whole
    and zeros follow it; T is that of the shape, or of the longest item where there is none.

    Args:
        dataset: the items.
        micro_batch: which of them, and the plan's shape; without one, the shortest item decides.
        data: the settings of the data.
        split: training crops are drawn, those of validation begin at the first sample.
        seed: of the run.

    Raises:
        DataError: when a file can't be read.
    """
    draws = micro_batch.draws
    lengths = [dataset.num_samples(draw.index) for draw in draws]
    if data.fit == "crop":
        samples = _crop_samples(lengths, micro_batch.shape, data=data)
        firsts = [
            _first_frame(draw, length - samples, data=data, seed=seed) if split == "train" else 0
            for draw, length in zip(draws, lengths, strict=True)
        ]
        waves = [
            _part(dataset, draw.index, start=first * data.hop, frames=samples, data=data)
            for draw, first in zip(draws, firsts, strict=True)
        ]
        lengths = [samples] * len(draws)
    else:
        padded = round(micro_batch.shape[0] * data.rate_hz) if micro_batch.shape else 0
        samples = max([padded, *lengths])
        firsts = [0] * len(draws)
        waves = [_part(dataset, draw.index, data=data) for draw in draws]
    wave_BT = torch.zeros(len(draws), samples)
    for row, wave_T in zip(wave_BT, waves, strict=True):
        row[: len(wave_T)] = torch.from_numpy(wave_T)
    return Batch(
        {"wave": wave_BT, "length": torch.tensor(lengths), "first_frame": torch.tensor(firsts)}
    )


def whole_batches(
    dataset: Waveforms, *, data: UnlabelledData, most: int, count: int
) -> list[MicroBatch]:
    """Return micro-batches for an evaluation, in which every item is whole, the longest first.

    With `data.fit = "crop"` nothing may be padded: items are together that have equally many hops, and
    lose what is left of the last one. So no number depends on what an item is evaluated with.

    Args:
        dataset: the validation items.
        data: the settings of the data.
        most: maximum items of a micro-batch.
        count: how many of the first items to use.
    """
    hops = [dataset.num_samples(index) // data.hop for index in range(count)]
    order = sorted(range(count), key=lambda index: -hops[index])
    if data.fit == "pad":
        return [MicroBatch(_draws(part)) for part in _parts(order, most)]
    return [
        MicroBatch(_draws(part), (number * data.hop / data.rate_hz,))
        for number, alike in groupby(order, key=hops.__getitem__)
        for part in _parts(list(alike), most)
    ]


def noise_batch(
    count: int, shape: Sequence[float], *, data: UnlabelledData, longest_s: float
) -> Batch:
    """Return what `read_waveforms` might of `count` items of noise, for trials of memory and time.

    Args:
        count: B.
        shape: (seconds,) of the items; empty: `longest_s`.
        data: the settings of the data.
        longest_s: length of the longest training item.
    """
    seconds = shape[0] if shape else longest_s
    samples = max(data.hop, round(seconds * data.rate_hz))
    if data.fit == "crop":
        samples = samples // data.hop * data.hop
    generator = torch.Generator().manual_seed(0)
    wave_BT: Tensor = torch.randn(count, samples, generator=generator)
    if not data.normalize_waveform:
        wave_BT *= 0.1
    length_B, first_B = torch.full((count,), samples), torch.zeros(count, dtype=torch.int64)
    return Batch({"wave": wave_BT, "length": length_B, "first_frame": first_B})


def _crop_samples(lengths: Sequence[int], shape: tuple[float, ...], *, data: UnlabelledData) -> int:
    """Return T: the plan's length, or that of the shortest item, in whole hops."""
    if shape:
        return round(shape[0] * data.rate_hz / data.hop) * data.hop
    return min(lengths, default=0) // data.hop * data.hop


def _first_frame(draw: ItemDraw, spare: int, *, data: UnlabelledData, seed: int) -> int:
    """Return where a crop begins, in hops; `spare` samples of the item are not in it."""
    assert spare >= 0, (draw, spare)
    generator = item_generator(seed, draw.epoch, draw.index, "crop")
    return int(generator.integers(spare // data.hop + 1))


def _part(
    dataset: Waveforms,
    index: int,
    *,
    data: UnlabelledData,
    start: int = 0,
    frames: int | None = None,
) -> np.ndarray:
    """Read a part of an item; normalised by the whole of it, so that a crop doesn't change numbers."""
    if not data.normalize_waveform:
        return dataset.audio(index, start=start, frames=frames)
    end = None if frames is None else start + frames
    return normalised(dataset.audio(index))[start:end]


def _draws(indices: Sequence[int]) -> tuple[ItemDraw, ...]:
    return tuple(ItemDraw(0, index) for index in indices)


def _parts(order: Sequence[int], most: int) -> list[Sequence[int]]:
    return [order[first : first + most] for first in range(0, len(order), most)]
