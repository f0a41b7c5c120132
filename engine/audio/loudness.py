"""Loudness of a signal by ITU-R BS.1770-4, with numpy only.

The two filters of the K-weighting are applied in the frequency domain, with zeros appended for their
decay. Their coefficients are those of the recommendation at 48 kHz, and at other rates those of the same
analogue filters (as in libebur128). Letters: C channels, T samples.
"""

from __future__ import annotations

import math

import numpy as np

_BLOCK_S, _STEP_S = 0.4, 0.1
_ABSOLUTE_GATE = -70.0
_RELATIVE_GATE = -10.0
_OFFSET = -0.691
_DECAY_S = 0.5


def loudness(signal_CT: np.ndarray, rate_hz: int) -> float:
    """Return the integrated loudness in LUFS; -inf for silence.

    All channels have weight 1 (left, right, centre). A signal shorter than one gating block of 400 ms is
    measured as a whole, without gates.
    """
    weighted_CT = _k_weighted(np.asarray(signal_CT, dtype=np.float64), rate_hz)
    frames = weighted_CT.shape[-1]
    block, step = round(_BLOCK_S * rate_hz), round(_STEP_S * rate_hz)
    if frames < block:
        return _lufs(float((weighted_CT**2).mean(axis=-1).sum()) if frames else 0.0)
    total = np.concatenate([[0.0], np.cumsum((weighted_CT**2).sum(axis=0))])
    starts = np.arange(0, frames - block + 1, step)
    powers = np.maximum(0.0, (total[starts + block] - total[starts]) / block)
    loud = powers[powers > _power(_ABSOLUTE_GATE)]
    if not len(loud):
        return -math.inf
    gate = loud.mean() * 10 ** (_RELATIVE_GATE / 10)
    return _lufs(float(loud[loud > gate].mean()))


def _k_weighted(signal_CT: np.ndarray, rate_hz: int) -> np.ndarray:
    frames = signal_CT.shape[-1]
    size = 1 << max(1, frames + round(_DECAY_S * rate_hz) - 1).bit_length()
    delay_F = np.exp(-2j * np.pi * np.arange(size // 2 + 1) / size)
    response_F = np.ones_like(delay_F)
    for b, a in (_shelf(rate_hz), _high_pass(rate_hz)):
        response_F *= np.polyval(b[::-1], delay_F) / np.polyval(a[::-1], delay_F)
    filtered: np.ndarray = np.fft.irfft(np.fft.rfft(signal_CT, size) * response_F, size)
    return filtered[..., :frames]


def _shelf(rate_hz: int) -> tuple[list[float], list[float]]:
    """Return numerator and denominator of the shelf that stands for the head."""
    k = math.tan(math.pi * 1681.974450955533 / rate_hz)
    q, high = 0.7071752369554196, 10 ** (3.999843853973347 / 20)
    band = high**0.4996667741545416
    norm = 1 + k / q + k * k
    b = [high + band * k / q + k * k, 2 * (k * k - high), high - band * k / q + k * k]
    return [x / norm for x in b], [1.0, 2 * (k * k - 1) / norm, (1 - k / q + k * k) / norm]


def _high_pass(rate_hz: int) -> tuple[list[float], list[float]]:
    """Return numerator and denominator of the high-pass (RLB weighting)."""
    k = math.tan(math.pi * 38.13547087602444 / rate_hz)
    q = 0.5003270373238773
    norm = 1 + k / q + k * k
    return [1.0, -2.0, 1.0], [1.0, 2 * (k * k - 1) / norm, (1 - k / q + k * k) / norm]


def _power(level: float) -> float:
    return float(10 ** ((level - _OFFSET) / 10))


def _lufs(power: float) -> float:
    return _OFFSET + 10 * math.log10(power) if power > 0 else -math.inf
