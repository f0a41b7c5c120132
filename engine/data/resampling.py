"""Sampling-rate conversion with windowed-sinc filters, sample-exact in length and position.

Owns the cache of filter kernels. A part of a file read through `read_resampled` equals the same part
of the whole file resampled: nothing shifts, and crop borders show no artefacts.
"""

from __future__ import annotations

from functools import lru_cache
from math import gcd
from typing import TYPE_CHECKING

import numpy as np
import torch

from engine.config.problems import Problem
from engine.data.audio_files import AudioInfo, DataError, read_segment

if TYPE_CHECKING:
    from torchaudio.transforms import Resample

ZERO_CROSSINGS = 16
_ROLLOFF = 0.99
_LARGEST_KERNEL = 2**22


def resampled_length(frames: int, from_hz: int, to_hz: int) -> int:
    """Return how many samples `frames` become: the ceiling of frames x to_hz / from_hz."""
    return -(-frames * to_hz // from_hz)


def resample(samples_CT: np.ndarray, from_hz: int, to_hz: int) -> np.ndarray:
    """Convert (C, T) float32 to another rate; the length is `resampled_length`."""
    if from_hz == to_hz:
        return samples_CT
    with torch.inference_mode():
        result: np.ndarray = _resampler(from_hz, to_hz)(torch.from_numpy(samples_CT)).numpy()
    return result


def read_resampled(info: AudioInfo, start: int, frames: int, rate_hz: int) -> np.ndarray:
    """Read (C, T) at `rate_hz`; `start` and `frames` count samples at that rate.

    Raises:
        DataError: when the file became unreadable.
    """
    if info.rate_hz == rate_hz:
        return read_segment(info, start, frames)
    divisor = gcd(info.rate_hz, rate_hz)
    source_block, block = info.rate_hz // divisor, rate_hz // divisor
    margin = filter_margin(info.rate_hz, rate_hz)
    first = max(0, start // block - -(-margin // source_block))
    source_start = first * source_block
    source_end = min(info.frames, -(-(start + frames) * info.rate_hz // rate_hz) + margin)
    read_CT = read_segment(info, source_start, source_end - source_start)
    offset = start - first * block
    return resample(read_CT, info.rate_hz, rate_hz)[:, offset : offset + frames]


def filter_margin(from_hz: int, to_hz: int) -> int:
    """Return how many source samples to either side have a say in one output sample."""
    ratio = from_hz / min(from_hz, to_hz)
    return int(np.ceil(ZERO_CROSSINGS * ratio / _ROLLOFF)) + 1


def check_rates(from_hz: int, to_hz: int, *, setting: str) -> None:
    """Refuse a pair of rates whose filter bank would not fit in memory.

    Raises:
        DataError: for rates with (almost) no common divisor, such as 44101 and 48000.
    """
    divisor = gcd(from_hz, to_hz)
    source_block, block = from_hz // divisor, to_hz // divisor
    taps = 2 * filter_margin(from_hz, to_hz) + source_block
    if from_hz != to_hz and block * taps > _LARGEST_KERNEL:
        message = (
            f"can't resample from {from_hz} to {to_hz} Hz: their greatest common divisor is only "
            f"{divisor}; expected common rates, such as 16000, 44100 or 48000 Hz"
        )
        raise DataError([Problem(setting, message)])


@lru_cache(maxsize=64)
def _resampler(from_hz: int, to_hz: int) -> Resample:
    from torchaudio.transforms import Resample

    return Resample(from_hz, to_hz, lowpass_filter_width=ZERO_CROSSINGS, rolloff=_ROLLOFF)
