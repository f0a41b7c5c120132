"""Fixtures for the data tests: audio files with known samples, and configs of each task."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from engine.config.loading import load_config
from engine.config.schema import RunConfig

WriteAudio = Callable[..., np.ndarray]
MakeConfig = Callable[..., RunConfig]


@pytest.fixture(autouse=True)
def without_media(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read what sepdash reads by itself, but where a test asks for more by `media`."""
    if "media" not in request.fixturenames:
        monkeypatch.setattr("engine.data.files.media.is_installed", lambda: False)


@pytest.fixture
def write_audio(tmp_path: Path) -> WriteAudio:
    """Write a float WAV below the temporary folder and return its samples (C, T), float32."""

    def write(
        name: str, *, frames: int = 1000, rate_hz: int = 8000, channels: int = 1, seed: int = 0,
        samples: np.ndarray | None = None,
    ) -> np.ndarray:  # fmt: skip
        if samples is None:
            samples = 0.1 * np.random.default_rng(seed).standard_normal((channels, frames))
        samples = np.atleast_2d(samples).astype(np.float32)
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        subtype = "FLOAT" if path.suffix == ".wav" else None
        soundfile.write(path, samples.T, rate_hz, subtype=subtype)
        return samples

    return write


@pytest.fixture
def make_config(tmp_path: Path) -> MakeConfig:
    """Make a config of one task at 8 kHz with 0.1 s segments; folders `train` and `valid`."""

    def make(
        kind: str, *, validation: dict[str, Any] | None = None, seed: int = 0, **data: Any
    ) -> RunConfig:
        values: dict[str, Any] = {
            "kind": kind, "train": str(tmp_path / "train"), "valid": str(tmp_path / "valid"),
            "rate_hz": 8000, "segment_s": 0.1,
        }  # fmt: skip
        if kind == "bandwidth":
            values["input_rates_hz"] = [2000, 4000]
        values.update({key: str(v) if isinstance(v, Path) else v for key, v in data.items()})
        return load_config({"data": values, "validation": validation or {}, "seed": seed})

    return make
