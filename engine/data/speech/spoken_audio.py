"""The audio of recordings whose texts are known. Letters: T samples."""

from __future__ import annotations

import numpy as np

from engine.data.files.resampling import read_resampled
from engine.data.files.source import with_channels
from engine.data.speech.spoken_texts import SpokenText


def read_spoken(item: SpokenText, rate_hz: int) -> np.ndarray:
    """Read a recording, float32 (T,), at a rate; channels are averaged.

    Raises:
        DataError: when the file became unreadable.
    """
    frames = max(1, round(item.duration_s * rate_hz))
    start = round(item.start_s * rate_hz)
    read_CT = read_resampled(item.info, start, frames=frames, rate_hz=rate_hz)
    samples_T: np.ndarray = with_channels(read_CT, 1)[0]
    return samples_T
