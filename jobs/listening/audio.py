"""The audio of a trial: two signals of equal rate, channels, length and loudness, as WAV files.

Letters: C channels, T samples.
"""

from __future__ import annotations

import hashlib
import io
import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.audio.loudness import loudness
from engine.config.errors import DataError, Problem
from engine.data.files.audio_files import probe, read_segment

LEVEL_NOTE = "ITU-R BS.1770-4 loudness"
# Where both signals are played, unless a peak would leave the headroom.
_TARGET_LUFS = -23.0
_HIGHEST_PEAK = 10 ** (-1 / 20)
_SILENT_RMS = 1e-6
_FADE_S = 0.01
_SHORTEST_S = 0.1
_BYTES = 3
_SCALE = 2**23


@dataclass(frozen=True, slots=True)
class Stimulus:
    """What is compared in a trial: the files of both sides for an item."""

    item: str
    a: Path
    b: Path


@dataclass(frozen=True, slots=True)
class Matched:
    """Both signals of an item, alike in everything but what is to be heard.

    Attributes:
        a_content, b_content: identify what was read, before it was made alike.
    """

    rate_hz: int
    a_CT: np.ndarray
    b_CT: np.ndarray
    a_content: str
    b_content: str


def match(stimulus: Stimulus, *, excerpt_s: float) -> Matched:
    """Read both signals of an item and make them alike.

    The middle is taken where they are longer than `excerpt_s`; a mono signal gets a second channel where
    the other one has two; both are brought to the same loudness, and faded in and out.

    Raises:
        DataError: where they can't be compared: the rates differ, one is silent, or both are the same.
    """
    a, b = probe(stimulus.a), probe(stimulus.b)
    if a.rate_hz != b.rate_hz:
        raise _problem(
            stimulus, f"the sampling rates differ ({a.rate_hz} and {b.rate_hz} Hz); resample one of them"
        )  # fmt: skip
    if {a.channels, b.channels} not in ({1}, {2}, {1, 2}):
        raise _problem(
            stimulus, f"expected one or two channels, found {a.channels} and {b.channels}"
        )
    frames = min(a.frames, b.frames)
    length = min(frames, round(excerpt_s * a.rate_hz))
    if length < _SHORTEST_S * a.rate_hz:
        raise _problem(stimulus, f"shorter than {_SHORTEST_S} s")
    start = (frames - length) // 2
    signals = [read_segment(info, start, frames=length) for info in (a, b)]
    channels = max(a.channels, b.channels)
    a_CT, b_CT = (np.broadcast_to(x_CT, (channels, length)).astype(np.float64) for x_CT in signals)
    a_CT, b_CT = _equally_loud(stimulus, a_CT, b_CT=b_CT, rate_hz=a.rate_hz)
    if np.abs(a_CT - b_CT).max() < 1 / _SCALE:
        raise _problem(stimulus, "both sides are the same audio, so there is nothing to hear")
    a_content, b_content = (_content(x_CT, a.rate_hz) for x_CT in signals)
    return Matched(a.rate_hz, a_CT=a_CT, b_CT=b_CT, a_content=a_content, b_content=b_content)


def _content(signal_CT: np.ndarray, rate_hz: int) -> str:
    head = f"{rate_hz} {signal_CT.shape}"
    return hashlib.sha256(head.encode() + np.ascontiguousarray(signal_CT).tobytes()).hexdigest()


def _equally_loud(
    stimulus: Stimulus, a_CT: np.ndarray, *, b_CT: np.ndarray, rate_hz: int
) -> tuple[np.ndarray, np.ndarray]:
    ramp = np.minimum(1.0, np.arange(1, a_CT.shape[-1] + 1) / (_FADE_S * rate_hz))
    scaled = []
    for path, x_CT in ((stimulus.a, a_CT), (stimulus.b, b_CT)):
        rms = float(np.sqrt((x_CT**2).mean()))
        if rms < _SILENT_RMS:
            raise _problem(stimulus, f"{path} is silent, so its level can't be matched")
        # A model may write at any level, also below the absolute gate of the measurement.
        x_CT = x_CT / rms
        level = loudness(x_CT, rate_hz)
        scaled.append(x_CT * (ramp * ramp[::-1] * 10 ** ((_TARGET_LUFS - level) / 20)))
    peak = max(np.abs(x_CT).max() for x_CT in scaled)
    gain = min(1.0, _HIGHEST_PEAK / peak)
    return scaled[0] * gain, scaled[1] * gain


def wav(signal_CT: np.ndarray, rate_hz: int, *, noise_key: tuple[int, ...]) -> bytes:
    """Return a 24-bit WAV file; its size depends on rate, channels and length alone.

    The dither (triangular, one step) is keyed, so that X is not the same bytes as 1 or 2.
    """
    noise = np.random.default_rng(noise_key).random((2, *signal_CT.shape))
    steps_CT = np.rint(signal_CT * (_SCALE - 2) + noise[0] - noise[1]).astype("<i4")
    samples = np.ascontiguousarray(steps_CT.T).view(np.uint8).reshape(-1, 4)[:, :_BYTES]
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(len(signal_CT))
        out.setsampwidth(_BYTES)
        out.setframerate(rate_hz)
        out.writeframes(samples.tobytes())
    return file.getvalue()


def duration_s(data: bytes) -> float:
    """Return the length in seconds of what `wav` made; 0 for anything else."""
    try:
        with wave.open(io.BytesIO(data)) as file:
            return float(file.getnframes() / file.getframerate())
    except (wave.Error, EOFError):
        return 0.0


def _problem(stimulus: Stimulus, text: str) -> DataError:
    return DataError([Problem("", f"{stimulus.item}: {text}")])
