"""A folder of recordings: bursts of noise that sound like speech to whoever looks for silence only."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from engine.config.text_data import TextData

RATE_HZ = 8_000
WriteClip = Callable[..., Path]


@pytest.fixture
def data() -> TextData:
    """Settings of texts: lower case, plain punctuation, characters."""
    return TextData(kind="any", train=Path("t"), valid=Path("v"), punctuation="plain")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder of a voice."""
    path = tmp_path / "anna"
    path.mkdir()
    return path


@pytest.fixture
def write_clip(folder: Path) -> WriteClip:
    """Write a clip of noise below the folder: silence, sound, silence."""

    def write(
        name: str, *, sound_s: float = 1.0, lead_s: float = 0.1, tail_s: float = 0.1, seed: int | None = None,
        rate_hz: int = RATE_HZ, level: float = 0.1, channels: int = 1,
    ) -> Path:  # fmt: skip
        draw = np.random.default_rng([*name.encode()] if seed is None else seed)
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        sound_T = level * draw.standard_normal((round(sound_s * rate_hz), channels))
        lead_T, tail_T = (np.zeros((round(s * rate_hz), channels)) for s in (lead_s, tail_s))
        samples = np.concatenate([lead_T, sound_T, tail_T]).clip(-1, 1 - 2**-15)
        soundfile.write(path, samples, rate_hz, subtype="PCM_16")
        return path

    return write
