"""A spectrogram as a PNG file, using only numpy and zlib: for the clips of a run.

Fixed scale, so that pictures can be compared. Letters: C channels, T samples, F bins,
L frames.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np

_WINDOW = 1024
_MOST_FRAMES = 1200
_LOWEST_DB = -100.0
# From black over violet and orange to pale yellow, with increasing level.
_RAMP = np.array([[0, 0, 4], [81, 18, 124], [183, 55, 121], [252, 137, 97], [252, 253, 191]])


def level_db(samples_CT: np.ndarray) -> np.ndarray:
    """Return (F, L): the level of each bin, mean power over the channels, a full-scale sine at 0 dB."""
    length = samples_CT.shape[-1]
    hop = max(_WINDOW // 16, length // _MOST_FRAMES)
    padded_CT = np.pad(samples_CT, ((0, 0), (_WINDOW // 2, _WINDOW // 2)))
    frames_CLT = np.lib.stride_tricks.sliding_window_view(padded_CT, _WINDOW, axis=1)[:, ::hop]
    window_T = np.hanning(_WINDOW + 1)[:-1]
    spectrum_CLF = np.fft.rfft(frames_CLT * window_T)
    power_LF = np.square(np.abs(spectrum_CLF) / (window_T.sum() / 2)).mean(axis=0)
    level_LF: np.ndarray = 10 * np.log10(power_LF + 10 ** (_LOWEST_DB / 10))
    return level_LF.T


def png(samples_CT: np.ndarray) -> bytes:
    """Return the spectrogram of a signal: time to the right, frequency upwards, -100 to 0 dB."""
    level_FL = level_db(samples_CT)[::-1]
    shade_FL = np.clip(np.round(255 * (1 - level_FL / _LOWEST_DB)), 0, 255).astype(np.uint8)
    height, width = shade_FL.shape
    # Each line of a PNG starts with the number of its filter, 0 for none.
    lines = np.concatenate([np.zeros((height, 1), np.uint8), shade_FL], axis=1).tobytes()
    head = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    parts = [
        (b"IHDR", head),
        (b"PLTE", _palette()),
        (b"IDAT", zlib.compress(lines)),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in parts)


def _palette() -> bytes:
    place = np.linspace(0, len(_RAMP) - 1, 256)
    columns = [np.interp(place, np.arange(len(_RAMP)), _RAMP[:, i]) for i in range(3)]
    return np.stack(columns, axis=1).round().astype(np.uint8).tobytes()


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
