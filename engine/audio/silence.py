"""Where a voice pauses: levels of short frames, and the level below which they count as silence. NumPy only.

The limit follows the recording: 45 dB below its loud frames, or where it is noisier than that, just above its
noise; noise that is less than 25 dB below them is told from soft speech by being steady. Letters: C channels,
T samples, L frames.
"""

from __future__ import annotations

import numpy as np

FRAME_S = 0.01
_BELOW_LOUD_DB = 45.0
_NEVER_ABOVE_DB = 25.0  # below the loud frames: louder is speech, unless it is steady
_ABOVE_NOISE_DB = 10.0
_ABOVE_STEADY_DB = 4.0
_STEADY = 25  # frames: noise keeps its level in a pause, speech passes through soft levels within a syllable
_ALWAYS_BELOW_DB = 8.0  # below the loud frames, whatever the noise
_LOUD, _QUIET = 95, 5  # percentiles
_NEVER_BELOW_DB = -90.0  # about the rounding of 16 bits: nobody hears it
_FLOOR_DB = -120.0
_CLICK = 3  # frames: shorter bursts within silence are clicks of the mouth or the microphone


def frame_samples(rate_hz: int) -> int:
    """Return the samples of a frame."""
    return max(1, round(FRAME_S * rate_hz))


def levels_db(samples_CT: np.ndarray, rate_hz: int) -> np.ndarray:
    """Return (L,) levels in dB below full scale, of whole frames; a rest counts as a frame of its own."""
    power_T = np.square(samples_CT, dtype=np.float64).mean(axis=0)
    size = frame_samples(rate_hz)
    whole = len(power_T) // size * size
    power_L = power_T[:whole].reshape(-1, size).mean(axis=1)
    if whole < len(power_T):
        power_L = np.append(power_L, power_T[whole:].mean())
    levels_L: np.ndarray = 10 * np.log10(np.maximum(power_L, 10 ** (_FLOOR_DB / 10)))
    return levels_L


def silence_limit_db(levels_L: np.ndarray) -> float:
    """Return the level below which frames of a recording are silence."""
    loud = float(np.percentile(levels_L, _LOUD))
    noise = float(np.percentile(levels_L, _QUIET))
    most_db = loud - _NEVER_ABOVE_DB
    if noise > most_db and _longest(levels_L < noise + _ABOVE_STEADY_DB) >= _STEADY:
        most_db = min(noise + _ABOVE_STEADY_DB, loud - _ALWAYS_BELOW_DB)
    limit_db = max(loud - _BELOW_LOUD_DB, min(noise + _ABOVE_NOISE_DB, most_db))
    return max(limit_db, _NEVER_BELOW_DB)


def _longest(marks_L: np.ndarray) -> int:
    """Return the length of the longest run of marked frames."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], marks_L, [0]]).astype(np.int8)))
    return int(np.max(edges[1::2] - edges[::2], initial=0))


def runs_of_sound(levels_L: np.ndarray, limit_db: float, *, min_pause: int) -> np.ndarray:
    """Return (N, 2): where sound begins and ends, in frames; pauses of `min_pause` frames divide it.

    Bursts of less than 30 ms with such a pause on both sides are left out.
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[0], levels_L > limit_db, [0]]).astype(np.int8)))
    runs_N2 = edges.reshape(-1, 2)
    if not len(runs_N2):
        return runs_N2
    divides = runs_N2[1:, 0] - runs_N2[:-1, 1] >= min_pause
    starts = runs_N2[np.concatenate([[True], divides]), 0]
    ends = runs_N2[np.concatenate([divides, [True]]), 1]
    joined_N2 = np.stack([starts, ends], axis=1)
    return np.asarray(joined_N2[ends - starts >= _CLICK])


def silent_ends_s(levels_L: np.ndarray, limit_db: float) -> tuple[float, float]:
    """Return the seconds of silence before the first and after the last sound; all of it twice without any."""
    runs_N2 = runs_of_sound(levels_L, limit_db, min_pause=1)
    runs_N2 = runs_N2 if len(runs_N2) else np.array([[len(levels_L), 0]])
    return float(runs_N2[0, 0]) * FRAME_S, float(len(levels_L) - runs_N2[-1, 1]) * FRAME_S
