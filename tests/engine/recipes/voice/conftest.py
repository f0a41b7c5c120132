"""Tiny voices on made-up speech, and a codec whose weights are drawn."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from engine.checkpoints.files import MODEL, write_checkpoint
from engine.config.loading import load_config
from engine.config.schema import RunConfig
from engine.recipes.base import Opening
from engine.recipes.registry import open_recipe
from engine.training.trainer import Trainer
from models.codec.mel_codec import MelCodec

RATE = 8_000
# Letter -> Hz; a text is spoken as its notes.
NOTES = {"a": 300.0, "b": 700.0, "c": 1_300.0, "d": 2_300.0}
LETTER_S = 0.12


def _say(text: str, level: float, rng: np.random.Generator) -> np.ndarray:
    parts = []
    for letter in text:
        length = int(RATE * LETTER_S * rng.uniform(0.8, 1.2))
        parts.append(level * np.sin(2 * np.pi * NOTES[letter] * np.arange(length) / RATE))
    wave = np.concatenate(parts)
    return wave + 0.0005 * rng.normal(size=len(wave))


@pytest.fixture(scope="session")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ninety training and six validation texts of three speakers, 8 kHz, and their manifests."""
    folder = tmp_path_factory.mktemp("speech")
    rng = np.random.default_rng(0)
    for split, count in (("train", 90), ("valid", 6)):
        rows = []
        for index in range(count):
            text = "".join(rng.choice(list(NOTES), size=rng.integers(3, 9)))
            speaker = ("loud", "quiet", "once")[2 if (split, index) == ("train", 7) else index % 2]
            name = f"{split}-{index:02}.wav"
            level = {"loud": 0.4, "quiet": 0.04, "once": 0.1}[speaker]
            soundfile.write(folder / name, _say(text, level, rng), RATE)
            rows.append(json.dumps({"path": name, "text": text, "speaker": speaker}))
        (folder / f"{split}.jsonl").write_text("\n".join(rows))
    return folder


@pytest.fixture(scope="session")
def codec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a codec as if it had been trained: 20 bands, 75 codes, 20.8 a second."""
    return save_codec(tmp_path_factory.mktemp("codec") / "checkpoint")


@pytest.fixture
def other_codec(tmp_path: Path) -> Path:
    """The checkpoint of another codec of the same sizes."""
    return save_codec(tmp_path / "other", seed=1)


def save_codec(folder: Path, *, seed: int = 0) -> Path:
    """Write the checkpoint of a codec whose weights are drawn."""
    config = load_config(
        {
            "data": {"kind": "unlabelled", "train": "x", "valid": "x", "rate_hz": RATE, "min_s": 0.2, "max_s": 1.0},
            "model": {
                "kind": "mel_codec", "mel_bands": 20, "channels": [24, 32], "strides": [2, 2],
                "residual_blocks": 1, "levels": [5, 5, 3],
            },
            "loss": {"kind": "mel_codec"},
        }
    )  # fmt: skip
    torch.manual_seed(seed)
    network = MelCodec(config.model)  # type: ignore[arg-type]
    network.normalise_by(torch.full((20,), -5.0), torch.full((20,), 2.0))
    about = {"counters": {"updates": 1}, "config": config.to_dict(), "plan": ""}
    write_checkpoint(
        folder, about, tensors={MODEL: network.state_dict()}, documents={"state.json": {}}
    )
    return folder


@pytest.fixture(scope="session")
def make(speech: Path, codec: Path) -> Callable[..., RunConfig]:
    """Return a function that builds a tiny run, changed by sections given as keywords."""
    base: dict[str, Any] = {
        "codec": str(codec),
        "data": {
            "kind": "voice", "train": str(speech / "train.jsonl"), "valid": str(speech / "valid.jsonl"),
            "rate_hz": RATE, "min_s": 0.2, "max_s": 2.0, "references": 2, "reference_s": 0.4,
        },
        "model": {
            "kind": "voice_gpt", "layers": 2, "dim": 32, "heads": 2, "dropout": 0.0, "max_text": 16,
            "max_codes": 48, "reference_layers": 1,
        },
        "loss": {"kind": "voice", "text_loss_weight": 0.5},
        "batch": {"items": 6, "micro_batch": 3},
        "optimizer": {"lr": 3e-3},
        "schedule": {"length": "12 updates"},
        "ema": {"enabled": False},
        "validation": {"every": "6 updates", "batch_items": 4, "training_items": 2, "spoken": 3, "clips": 2},
        "checkpoint": {"every": "4 updates", "best": ["val_mel_loss"]},
        "precision": {"device": "cpu", "threads": 1},
    }  # fmt: skip

    def build(**sections: Any) -> RunConfig:
        changed = {
            name: {**base.get(name, {}), **value} if isinstance(value, dict) else value
            for name, value in sections.items()
        }
        return load_config({**base, **changed})

    return build


@pytest.fixture(scope="session")
def trained(
    make: Callable[..., RunConfig], codec: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The checkpoint of a voice that has been trained a little."""
    folder = tmp_path_factory.mktemp("trained")
    config = make(
        schedule={"length": "4 updates"}, validation={"every": "4 updates", "spoken": 0, "clips": 0}
    )
    recipe = open_recipe(config, opening=Opening(folder, {"codec": codec}))
    Trainer(config, recipe, folder=folder, observers=[], control=_NoStop()).fit()
    return folder / "checkpoints" / "last-000004"


class _NoStop:
    def stop_reason(self) -> None:
        """Never stop."""
