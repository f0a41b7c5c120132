"""Tiny codecs on made-up audio."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from engine.config.loading import load_config
from engine.config.schema import RunConfig

RATE = 8_000


@pytest.fixture(scope="session")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen training and five validation files of notes and noise, 8 kHz, 0.4 to 1 s."""
    folder = tmp_path_factory.mktemp("notes")
    rng = np.random.default_rng(0)
    for split, count in (("train", 16), ("valid", 5)):
        (folder / split).mkdir()
        for index in range(count):
            length = int(RATE * rng.uniform(0.4, 1.0))
            pitch = np.repeat(rng.uniform(100, 3_000, size=8), length // 8 + 1)[:length]
            level = np.repeat(rng.uniform(0.02, 0.4, size=5), length // 5 + 1)[:length]
            wave = level * np.sin(2 * np.pi * np.cumsum(pitch) / RATE)
            soundfile.write(
                folder / split / f"{index:02}.wav", wave + 0.003 * rng.normal(size=length), RATE
            )
    return folder


@pytest.fixture
def make(audio: Path) -> Callable[..., RunConfig]:
    """Return a function that builds a tiny run, changed by sections given as keywords."""
    base: dict[str, dict[str, Any]] = {
        "data": {
            "kind": "unlabelled", "train": str(audio / "train"), "valid": str(audio / "valid"),
            "rate_hz": RATE, "min_s": 0.2, "max_s": 1.0,
        },
        "model": {
            "kind": "mel_codec", "mel_bands": 20, "channels": [24, 32], "strides": [2, 2],
            "residual_blocks": 1, "levels": [5, 5, 3], "codes": 24, "code_dim": 6,
        },
        "loss": {"kind": "mel_codec"},
        "batch": {"items": 6, "micro_batch": 3},
        "optimizer": {"lr": 3e-3},
        "schedule": {"length": "12 updates"},
        "ema": {"enabled": False},
        "validation": {"every": "6 updates", "batch_items": 3, "training_items": 2},
        "checkpoint": {"every": "4 updates", "best": ["mel_distance"]},
        "precision": {"device": "cpu", "threads": 1},
    }  # fmt: skip

    def build(**sections: dict[str, Any]) -> RunConfig:
        return load_config({n: {**base.get(n, {}), **sections.get(n, {})} for n in base | sections})

    return build
