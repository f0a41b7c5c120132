"""Sounds for listening tests, and ways to answer."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import soundfile

from jobs.listening.session import Session

RATE_HZ = 8_000
HEARD = {"1": 1, "2": 1, "x": 1}


def write_sides(folder: Path, *, items: int = 3, gain: float = 0.1) -> tuple[Path, Path]:
    """Write folders `left` and `right` of tones; the noise of the right one differs, and its level."""
    random = np.random.default_rng(0)
    sides = folder / "left", folder / "right"
    for side, level in zip(sides, (0.3, 0.3 * gain), strict=True):
        side.mkdir(parents=True, exist_ok=True)
        for item in range(items):
            tone = np.sin(np.arange(3_200) * 0.3 * (item + 1))
            noise = 0.3 * random.standard_normal(3_200)
            soundfile.write(
                side / f"item{item}.wav", level * (tone + noise), RATE_HZ, subtype="FLOAT"
            )
    return sides


def decoded(wav: bytes) -> np.ndarray:
    """The samples of a WAV file, (T, C)."""
    samples_TC, rate_hz = soundfile.read(io.BytesIO(wav), always_2d=True)
    assert rate_hz == RATE_HZ
    return samples_TC


def answer_all(session: Session, *, correct: int) -> None:
    """Answer all trials of an ABX session, so many of them correctly."""
    while (number := session.pending) is not None:
        x = decoded(session.sound("x"))
        is_first = np.abs(decoded(session.sound("1")) - x).max() < 1e-5
        right = number < correct
        session.answer(number, "1" if is_first == right else "2", plays=HEARD, seconds=1.0)
