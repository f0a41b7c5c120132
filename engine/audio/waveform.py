"""Normalisation of waveforms. Free of torch. Letters: T samples."""

from __future__ import annotations

import numpy as np

# As in fairseq, torchaudio and transformers; keeps digital silence silent.
_EPSILON = 1e-5


def normalised(wave_T: np.ndarray) -> np.ndarray:
    """Return (T,) float32 with zero mean and unit variance; silence stays silence."""
    samples_T = wave_T.astype(np.float64)
    samples_T -= samples_T.mean()
    return np.asarray(samples_T / np.sqrt(samples_T.var() + _EPSILON), dtype=np.float32)
