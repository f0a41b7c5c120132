"""What a recogniser reads of an utterance: log-mel frames, or the samples themselves.

Letters: T samples, L frames, F numbers of a frame.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from engine.audio.log_mel import LogMel
from engine.audio.waveform import normalised
from engine.config.schema import RunConfig
from engine.config.speech import SpeechData
from models.speech_configs import SpeechHead, TunedEncoder


class FrontEnd(Protocol):
    """Turns audio (T,) into frames (L, F), float32; can be sent to a reader process."""

    @property
    def num_features(self) -> int:
        """Return F."""

    def __call__(self, samples_T: np.ndarray) -> Tensor:
        """Return (L, F)."""

    def frames_in(self, duration_s: float) -> int:
        """Return L for a duration in seconds."""

    def seconds_to(self, frames: int) -> float:
        """Return the duration of a number of frames, to the end of the last one."""


class Waveform:
    """Samples as frames of one number, at the rate of the model."""

    num_features = 1

    def __init__(self, data: SpeechData, *, at_least: int) -> None:
        self._rate_hz = data.rate_hz
        self._normalises = data.normalize_waveform
        self._at_least = at_least

    def __call__(self, samples_T: np.ndarray) -> Tensor:
        """Return (T, 1); what is shorter than a frame of the network is followed by silence."""
        if self._normalises:
            samples_T = normalised(samples_T)
        samples = torch.from_numpy(np.ascontiguousarray(samples_T, dtype=np.float32))
        return torch.nn.functional.pad(samples, (0, max(0, self._at_least - len(samples))))[:, None]

    def frames_in(self, duration_s: float) -> int:
        """Return T, at least that of a frame of the network."""
        return max(self._at_least, round(duration_s * self._rate_hz))

    def seconds_to(self, frames: int) -> float:
        """Return the duration of a number of samples."""
        return frames / self._rate_hz


def front_end_of(config: RunConfig) -> FrontEnd:
    """Return what the model of a run reads."""
    assert isinstance(config.data, SpeechData)
    assert isinstance(config.model, SpeechHead)
    if isinstance(config.model, TunedEncoder):
        return Waveform(config.data, at_least=config.model.receptive_field)
    return LogMel(config.data)
