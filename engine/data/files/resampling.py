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

from engine.data.files.audio_files import AudioInfo, read_segment
from engine.data.files.rates import ROLLOFF, ZERO_CROSSINGS, filter_margin

if TYPE_CHECKING:
    from torchaudio.transforms import Resample


def resample(samples_CT: np.ndarray, from_hz: int, *, to_hz: int) -> np.ndarray:
    """Convert (C, T) float32 to another rate; the length is `resampled_length`."""
    if from_hz == to_hz:
        return samples_CT
    with torch.inference_mode():
        result: np.ndarray = _resampler(from_hz, to_hz)(torch.from_numpy(samples_CT)).numpy()
    return result


def read_resampled(info: AudioInfo, start: int, *, frames: int, rate_hz: int) -> np.ndarray:
    """Read (C, T) at `rate_hz`; `start` and `frames` count samples at that rate.

    Raises:
        DataError: when the file became unreadable.
    """
    if info.rate_hz == rate_hz:
        return read_segment(info, start, frames=frames)
    divisor = gcd(info.rate_hz, rate_hz)
    source_block, block = info.rate_hz // divisor, rate_hz // divisor
    margin = filter_margin(info.rate_hz, rate_hz)
    first = max(0, start // block - -(-margin // source_block))
    source_start = first * source_block
    source_end = min(info.frames, -(-(start + frames) * info.rate_hz // rate_hz) + margin)
    read_CT = read_segment(info, source_start, frames=source_end - source_start)
    offset = start - first * block
    return resample(read_CT, info.rate_hz, to_hz=rate_hz)[:, offset : offset + frames]


@lru_cache(maxsize=64)
def _resampler(from_hz: int, to_hz: int) -> Resample:
    from torchaudio.transforms import Resample

    return Resample(from_hz, to_hz, lowpass_filter_width=ZERO_CROSSINGS, rolloff=ROLLOFF)
