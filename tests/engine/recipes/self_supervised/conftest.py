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
            "validation": {"every": "3 updates", "training_items": 2},
            "checkpoint": {"every": "3 updates"},
            "precision": {"device": "cpu", "threads": 1},
        }  # fmt: skip
        return load_config({n: {**base.get(n, {}), **sections.get(n, {})} for n in base | sections})

    return build


@pytest.fixture(scope="session")
def data2vec2_audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `train` and `valid`: files of tones and noise, 16 kHz, of unequal length."""
    folder = tmp_path_factory.mktemp("unlabelled")
    rng = np.random.default_rng(0)
    for name, lengths in (
        ("train", (0.5, 0.62, 0.7, 0.55, 0.8, 0.5, 0.66, 0.58)),
        ("valid", (0.5, 0.7, 0.62)),
    ):
        (folder / name).mkdir()
        for number, seconds in enumerate(lengths):
            time_T = np.arange(round(seconds * 16_000)) / 16_000
            tone_T = np.sin(2 * np.pi * rng.uniform(100, 2_000) * time_T * (1 + time_T))
            samples_T = 0.2 * tone_T + 0.05 * rng.normal(size=len(time_T))
            soundfile.write(folder / name / f"{number}.wav", samples_T, 16_000)
    return folder


@pytest.fixture
def data2vec2_config(data2vec2_audio: Path) -> Callable[..., RunConfig]:
    """Return a function that builds a tiny run, changed by sections given as keywords."""
    base: dict[str, Any] = {
        "data": {
            "kind": "unlabelled", "train": str(data2vec2_audio / "train"), "valid": str(data2vec2_audio / "valid"),
            "min_s": 0.4, "max_s": 1.0, "normalize_waveform": True,
        },
        "model": {
            "kind": "data2vec2", "conv_channels": [8] * 7, "layers": 2, "dim": 16, "heads": 2,
            "ffn": 24, "pos_conv_layers": 2, "pos_conv_width": 7, "pos_conv_groups": 4,
            "decoder_layers": 2, "decoder_dim": 8, "decoder_kernel": 3, "decoder_groups": 4,
        },
        "loss": {
            "kind": "data2vec2", "clones": 3, "average_layers": 2, "teacher_decay": 0.9,
            "teacher_end_decay": 0.99, "teacher_anneal": "8 updates",
        },
        "batch": {"items": 4, "micro_batch": 2},
        "optimizer": {"lr": 1e-3},
        "schedule": {"length": "10 updates"},
        "ema": {"enabled": False},
        "validation": {"every": "5 updates", "batch_items": 2, "training_items": 2},
        "checkpoint": {"every": "4 updates"},
        "precision": {"device": "cpu", "threads": 1},
    }  # fmt: skip

    def build(**sections: Any) -> RunConfig:
        changed = {name: {**base.get(name, {}), **values} for name, values in sections.items()}
        return load_config({**base, **changed})

    return build
