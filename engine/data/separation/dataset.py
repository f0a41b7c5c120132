"""What a dataset is: a fixed number of items, each a pure function of its place.

Letters: B batch, S sources, C channels, T samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from engine.batching.batch import Batch
from engine.batching.items import MicroBatch


@dataclass(frozen=True, slots=True)
class AudioItem:
    """A mixture and its target sources: `mix_CT` and `target_SCT`, float32."""

    mix_CT: np.ndarray
    target_SCT: np.ndarray


@dataclass(frozen=True, slots=True)
class WholeItem:
    """A validation item as long as its file: `frames` samples, of which `read(start, n)` gives a part.

    Parts are equal to those of the whole signal, so nothing but a part has to be in memory.
    """

    frames: int
    read: Callable[[int, int], AudioItem]


class Dataset(Protocol):
    """Items of one split of one task; can be sent to a worker process."""

    @property
    def manifest(self) -> str:
        """Return a hash over the names, lengths and rates of the files."""

    def __len__(self) -> int:
        """Return the number of items of an epoch."""

    def durations_s(self) -> np.ndarray:
        """Return (N,) float64, the length of each item in seconds."""

    def item(self, epoch: int, index: int) -> AudioItem:
        """Return an item, the same one for the same (config, split, epoch, index)."""

    def whole(self, index: int) -> WholeItem:
        """Return a validation item as long as its file; `item` gives the middle of it."""


def fetch(dataset: Dataset, micro_batch: MicroBatch) -> Batch:
    """Read and collate items of equal length: `mix` (B, C, T) and `target` (B, S, C, T)."""
    return collate([dataset.item(draw.epoch, draw.index) for draw in micro_batch.draws])


def fetch_padded(dataset: Dataset, micro_batch: MicroBatch, *, rate_hz: int) -> Batch:
    """Read items of any length, with zeros after them up to the shape of the micro-batch.

    Returns `mix` (B, C, T), `target` (B, S, C, T) and `length` (B,), the samples of each item.
    """
    items = [dataset.item(draw.epoch, draw.index) for draw in micro_batch.draws]
    lengths = [item.mix_CT.shape[-1] for item in items]
    frames = round(micro_batch.shape[0] * rate_hz) if micro_batch.shape else max(lengths)
    padded = [
        AudioItem(_lengthened(item.mix_CT, frames), _lengthened(item.target_SCT, frames))
        for item in items
    ]
    return Batch({**collate(padded).tensors, "length": torch.tensor(lengths)})


def _lengthened(samples_CT: np.ndarray, frames: int) -> np.ndarray:
    widths = [(0, 0)] * (samples_CT.ndim - 1) + [(0, frames - samples_CT.shape[-1])]
    return np.pad(samples_CT, widths)


def collate(items: Sequence[AudioItem]) -> Batch:
    """Stack items of equal length: `mix` (B, C, T) and `target` (B, S, C, T), float32."""
    return Batch(
        {
            "mix": torch.from_numpy(np.stack([item.mix_CT for item in items])),
            "target": torch.from_numpy(np.stack([item.target_SCT for item in items])),
        }
    )
