"""MFCC on the frame grid of a self-supervised encoder: the first targets of HuBERT, and the baseline of probes.

Owns how audio becomes cepstral frames: 13 coefficients with first and second differences, from
log-mel windows of 25 ms every 10 ms, of which every second is kept. Windows are not centred, so frame k
starts where frame k of the encoder starts: labels need no shift. Letters: T samples, L frames, D = 39.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.config.targets import MFCC_DIM

DIM = MFCC_DIM
NUM_COEFFICIENTS = DIM // 3
# The window and the hop of wav2vec 2.0's convolutions at 16 kHz: 25 ms every 20 ms.
WINDOW, HOP = 400, 320
# With 128 bands, four would have no bin of a window of 400 samples at all.
_NUM_MELS = 40
# Frames that a difference looks at, to either side together with its own (Kaldi's and torchaudio's default).
_DELTA_WINDOW = 5


class Mfcc:
    """Turns audio (T,) into MFCC frames (L, 39), float32; can be sent to a reader process.

    Coefficients are the orthonormal cosine transform of the logarithm of mel energies (HTK scale, with
    a fixed floor, so that a frame depends on its neighbourhood alone); differences are taken at 10 ms.
    """

    def __init__(self, rate_hz: int, *, window: int = WINDOW, hop: int = HOP) -> None:
        """Args.

        rate_hz: of the audio.
        window: samples that a frame of the encoder sees.
        hop: samples between frames of the encoder; even.
        """
        if hop % 2:
            raise ValueError(
                f"hop {hop}: expected an even number of samples, for differences at half of it"
            )
        self.rate_hz, self.window, self.hop = rate_hz, window, hop
        self._transform: Any = None

    def __getstate__(self) -> dict[str, object]:
        """Pickle without the transform: it is created again on first use."""
        return {**self.__dict__, "_transform": None}

    @property
    def name(self) -> str:
        """What decides the values, for a hash."""
        return f"mfcc {self.rate_hz} {self.window} {self.hop} {_NUM_MELS} {NUM_COEFFICIENTS} v1"

    def frames(self, num_samples: int) -> int:
        """Return L for a number of samples; 0 for less than a window."""
        return max(0, (num_samples - self.window) // self.hop + 1)

    def __call__(self, samples_T: np.ndarray, *, device: torch.device | None = None) -> Tensor:
        """Return (L, 39) on the device (the CPU where none is given)."""
        samples = torch.from_numpy(np.ascontiguousarray(samples_T, dtype=np.float32))
        if not self.frames(len(samples)):
            return torch.zeros(0, DIM, device=device)
        if device is not None:
            samples = samples.to(device)
        from torchaudio.functional import compute_deltas

        cepstra_CL = self._mfcc(samples.device)(samples)
        first_CL = compute_deltas(cepstra_CL, _DELTA_WINDOW)
        second_CL = compute_deltas(first_CL, _DELTA_WINDOW)
        fine_LD: Tensor = torch.cat([cepstra_CL, first_CL, second_CL]).T
        return fine_LD[::2].contiguous()

    def _mfcc(self, device: torch.device) -> Any:
        if self._transform is None:
            from torchaudio.transforms import MFCC

            mel = {
                "n_fft": self.window, "hop_length": self.hop // 2, "n_mels": _NUM_MELS, "center": False,
            }  # fmt: skip
            self._transform = MFCC(
                self.rate_hz, n_mfcc=NUM_COEFFICIENTS, log_mels=True, melkwargs=mel
            )
        return self._transform.to(device)
