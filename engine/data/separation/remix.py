"""Augmentation of training stems: other tracks, gain, polarity, channel swap and speed.

Owns the random draws of each item, and their application in a reader or on the device. Letters:
B batch, S stems, C channels, T samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from engine.config.data import StemsData
from engine.data.files.resampling import resample
from engine.data.files.source import Source


@dataclass(frozen=True, slots=True)
class StemChange:
    """The augmentation of one stem of an item.

    Attributes:
        track: number of the track it is taken from; None: the item's own track and position.
        share: relative position in another track, from 0 to 1.
        gain: factor of the samples; negative for inverted polarity.
        swap: whether left and right are swapped.
        speed_percent: speed increase in whole per cent; pitch changes with it.
    """

    track: int | None = None
    share: float = 0.0
    gain: float = 1.0
    swap: bool = False
    speed_percent: int = 0


def draw_changes(
    data: StemsData, num_tracks: int, *, draw: np.random.Generator
) -> tuple[StemChange, ...]:
    """Draw the changes to the stems of one item, in the order of targets and others.

    All numbers are drawn whatever the settings, so that turning one on leaves the others' draws as
    they were. Stems of one track keep one speed, or they would no longer belong together.
    """
    num_stems = len(data.targets) + len(data.others)
    remixed = bool(draw.random() < data.remix)
    speeds = draw.integers(-data.speed_percent, data.speed_percent, num_stems, endpoint=True)
    changes = []
    for stem in range(num_stems):
        track, share = int(draw.integers(num_tracks)), float(draw.random())
        level_db = float(draw.uniform(-1.0, 1.0)) * data.gain_db
        flip, swap = draw.random(2) < 0.5
        changes.append(
            StemChange(
                track=track if remixed else None,
                share=share if remixed else 0.0,
                gain=10.0 ** (level_db / 20.0) * (-1.0 if flip and data.flip_polarity else 1.0),
                swap=bool(swap) and data.swap_channels,
                speed_percent=int(speeds[stem if remixed else 0]),
            )
        )
    return tuple(changes)


def read_changed(source: Source, start: int, length: int, change: StemChange) -> np.ndarray:
    """Read float32 (C, length) of a stem and change it; `start` counts on the item's own track.

    Raises:
        DataError: when the file became unreadable.
    """
    samples_CT = read_placed(source, start, length, change)
    if change.swap:
        samples_CT = samples_CT[::-1]
    return np.ascontiguousarray(samples_CT * np.float32(change.gain))


def read_placed(source: Source, start: int, length: int, change: StemChange) -> np.ndarray:
    """Read float32 (C, length) of a stem, from its track and at its speed; gain and sides are left.

    Raises:
        DataError: when the file became unreadable.
    """
    needed = -(-length * (100 + change.speed_percent) // 100)
    if change.track is not None:
        start = int(change.share * (max(0, source.length - needed) + 1))
    samples_CT = read_within(source, start, length=needed)
    if change.speed_percent:
        samples_CT = resample(samples_CT, 100 + change.speed_percent, to_hz=100)[:, :length]
    return samples_CT


def mix_stems(
    stems_BSCT: Tensor, gain_BS: Tensor, *, swap_BS: Tensor, num_targets: int
) -> tuple[Tensor, Tensor]:
    """Change stems as `read_changed` does and sum them, bit by bit the same, on any device.

    Returns:
        The mixture (B, C, T), and the first `num_targets` stems (B, S, C, T).
    """
    turned_BSCT = torch.where(swap_BS[..., None, None], stems_BSCT.flip(2), stems_BSCT)
    changed_BSCT = turned_BSCT * gain_BS[..., None, None]
    # One after the other, as numpy adds: `sum` may take another order.
    first_BCT, *others = changed_BSCT.unbind(dim=1)
    for other_BCT in others:
        first_BCT = first_BCT + other_BCT
    return first_BCT, changed_BSCT[:, :num_targets]


def read_within(source: Source, start: int, *, length: int) -> np.ndarray:
    """Read (C, length) from `start`, or as late as the file allows; a shorter one lies between zeros."""
    frames = min(length, source.length)
    samples_CT = source.read(min(start, source.length - frames), frames)
    left = (length - frames) // 2
    return np.pad(samples_CT, [(0, 0), (left, length - frames - left)])
