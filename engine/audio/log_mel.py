"""Log-mel frames of speech, and their global mean and deviation.

Owns how audio becomes frames: windows of 25 ms every 10 ms, the Hann window and mel filters of
torchaudio, power, natural logarithm. Letters: T samples, L frames, F mel bands.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from engine.config.speech import SpeechData

_FRAME_S, _HOP_S = 0.025, 0.010
_LOWEST_HZ = 20.0
# Added to the energy, so that digital silence is not infinitely far from a quiet room.
_FLOOR = 1e-5
_SMALLEST_STD = 1e-3
# Half an hour of speech is enough to measure the mean spectrum.
MOST_CMVN_S = 1_800.0


class AudioSource(Protocol):
    """What the statistics are measured on: `engine.data.speech.utterances.SpeechDataset`."""

    def durations_s(self) -> np.ndarray:
        """Return (N,), seconds."""

    def audio(self, index: int) -> np.ndarray:
        """Return (T,) float32."""


class LogMel:
    """Turns audio (T,) into log-mel frames (L, F), float32; can be sent to a reader process."""

    def __init__(self, data: SpeechData) -> None:
        self._rate_hz = data.rate_hz
        self._num_mels = data.num_mels
        self._window = round(_FRAME_S * data.rate_hz)
        # A frame reaches as far as the transform, the next power of two.
        self._reach = 1 << (self._window - 1).bit_length()
        self._hop = round(_HOP_S * data.rate_hz)
        self._transform: Any = None

    def __getstate__(self) -> dict[str, object]:
        """Pickle without the transform: it is created again on first use."""
        return {**self.__dict__, "_transform": None}

    @property
    def num_features(self) -> int:
        """Return F."""
        return self._num_mels

    def __call__(self, samples_T: np.ndarray) -> Tensor:
        """Return (L, F); audio shorter than a frame is followed by silence."""
        samples = torch.from_numpy(np.ascontiguousarray(samples_T, dtype=np.float32))
        samples = torch.nn.functional.pad(samples, (0, max(0, self._reach - len(samples))))
        mel_FL: Tensor = self._mel(samples)
        return torch.log(mel_FL + _FLOOR).T.contiguous()

    def frames(self, num_samples: int) -> int:
        """Return L for a number of samples, at least 1."""
        return max(1, 1 + (num_samples - self._reach) // self._hop)

    def frames_in(self, duration_s: float) -> int:
        """Return L for a duration in seconds."""
        return self.frames(round(duration_s * self._rate_hz))

    def seconds_to(self, frames: int) -> float:
        """Return the duration of a number of frames, to the end of the last one."""
        return ((frames - 1) * self._hop + self._reach) / self._rate_hz

    @property
    def _mel(self) -> Any:
        if self._transform is None:
            from torchaudio.transforms import MelSpectrogram

            # Filters lie on whole frames, none in the middle of padding: nothing is centred.
            self._transform = MelSpectrogram(
                self._rate_hz,
                n_fft=self._reach,
                win_length=self._window,
                hop_length=self._hop,
                f_min=_LOWEST_HZ,
                n_mels=self._num_mels,
                center=False,
            )
        return self._transform


@dataclass(frozen=True, slots=True)
class Normalisation:
    """Mean and deviation of each mel band over a training set: float32 (F,) each."""

    mean_F: Tensor
    std_F: Tensor

    @classmethod
    def none(cls, num_mels: int) -> Normalisation:
        """Return the identity normalisation."""
        return cls(torch.zeros(num_mels), torch.ones(num_mels))


class BandSums:
    """Sums from which mean and deviation of each band follow; float64, (F,) each, and a count.

    Attributes:
        tensors: the sums, by name; can be saved, and given to the constructor to go on.
    """

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self.tensors = tensors

    @classmethod
    def of(cls, num_mels: int) -> BandSums:
        """Return the sums of nothing."""
        zeros_F = torch.zeros(num_mels, dtype=torch.float64)
        zero = torch.zeros((), dtype=torch.float64)
        return cls({"sum": zeros_F, "square": zeros_F.clone(), "count": zero})

    def add(self, feat_LF: Tensor) -> None:
        """Add frames (L, F), on any device."""
        feat_LF = feat_LF.double().cpu()
        self.tensors["sum"] += feat_LF.sum(dim=0)
        self.tensors["square"] += feat_LF.square().sum(dim=0)
        self.tensors["count"] += len(feat_LF)

    def normalisation(self) -> Normalisation:
        """Return mean and deviation of what was added."""
        mean_F = self.tensors["sum"] / self.tensors["count"]
        var_F = self.tensors["square"] / self.tensors["count"] - mean_F.square()
        return Normalisation(mean_F.float(), var_F.clamp(min=_SMALLEST_STD**2).sqrt().float())


def measured_items(durations_s: np.ndarray, *, most_s: float = MOST_CMVN_S) -> list[int]:
    """Return an even selection of items of about `most_s` seconds in all; all where that is enough.

    Args:
        durations_s: (N,) of the items.
        most_s: about how many seconds are read; which ones depends on the durations alone.
    """
    keep = max(1, round(len(durations_s) * min(1.0, most_s / durations_s.sum())))
    chosen = np.linspace(0, len(durations_s) - 1, keep).round().astype(int)
    found: list[int] = np.unique(chosen).tolist()
    return found


def measure(source: AudioSource, log_mel: LogMel, *, most_s: float = MOST_CMVN_S) -> Normalisation:
    """Measure mean and deviation over a training set, or over an even selection of it.

    Args:
        source: the utterances.
        log_mel: how they become frames.
        most_s: as `measured_items` takes it.
    """
    sums = BandSums.of(log_mel.num_features)
    for index in measured_items(source.durations_s(), most_s=most_s):
        sums.add(log_mel(source.audio(index)))
    return sums.normalisation()
