"""Tiny runs of the recipes that learn without labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from engine.config.loading import load_config
from engine.config.schema import RunConfig

RATE = 16_000
_MODEL: dict[str, Any] = {
    "kind": "wav2vec2", "conv_channels": [8, 8, 8, 8, 8, 8, 8], "layers": 1, "dim": 16, "heads": 2,
    "ffn": 24, "pos_conv_kernel": 8, "pos_conv_groups": 2, "extractor_norm": "layer_norm",
    "code_entries": 8, "code_dim": 8, "final_dim": 12, "layer_drop": 0.0, "dropout": 0.0,
    "attention_dropout": 0.0, "projection_dropout": 0.0, "feature_dropout": 0.0,
}  # fmt: skip


@pytest.fixture(scope="session")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve training and five validation files of tones that change, 0.6 to 1.2 s."""
    folder = tmp_path_factory.mktemp("tones")
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("valid", 5)):
        (folder / split).mkdir()
        for index in range(count):
            length = int(RATE * rng.uniform(0.6, 1.2))
            pitch = np.repeat(rng.uniform(100, 3_000, size=12), length // 12 + 1)[:length]
            wave = np.sin(2 * np.pi * np.cumsum(pitch) / RATE) + 0.05 * rng.normal(size=length)
            soundfile.write(folder / split / f"{index:02}.wav", 0.3 * wave, RATE)
    return folder


@pytest.fixture
def wav2vec2_config(tones: Path) -> Callable[..., RunConfig]:
    """Return a function that builds a tiny run, changed by sections."""

    def build(**sections: Mapping[str, Any]) -> RunConfig:
        base: dict[str, dict[str, Any]] = {
            "data": {
                "kind": "unlabelled", "train": str(tones / "train"), "valid": str(tones / "valid"),
                "min_s": 0.1, "max_s": 2.0, "fit": "pad", "normalize_waveform": True,
            },
            "model": _MODEL,
            "loss": {"kind": "wav2vec2", "distractors": 10, "mask_length": 3},
            "batch": {"mode": "exact", "items": 6, "micro_batch": 6},
            "optimizer": {"lr": 1e-3},
            "schedule": {"length": "6 updates"},
            "validation": {"every": "3 updates"},
            "checkpoint": {"every": "3 updates"},
            "precision": {"device": "cpu", "threads": 1},
        }  # fmt: skip
        return load_config({n: {**base.get(n, {}), **sections.get(n, {})} for n in base | sections})

    return build
