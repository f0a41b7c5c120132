"""Tones and noise as audio without texts, and labels that are made up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from engine.config.loading import load_config
from engine.config.schema import RunConfig
from engine.item_random import item_generator

SECONDS = (1.0, 1.4, 2.0, 1.1, 1.7, 2.0, 1.25, 1.9)
ENCODER = {
    "conv_channels": [8, 8, 8, 8, 8, 8, 8], "layers": 2, "dim": 16, "heads": 2, "ffn": 16,
    "pos_conv_kernel": 4, "pos_conv_groups": 2, "dropout": 0.0, "attention_dropout": 0.0,
    "projection_dropout": 0.0, "layer_drop": 0.0,
}  # fmt: skip


class MadeUpTargets:
    """Labels that depend on split, item and frame only; runs no stage."""

    identity = "made up"

    def __init__(self, clusters: int) -> None:
        self.clusters = clusters

    def stages(self) -> list[Any]:
        return []

    def use(self, stage: str, result: Any) -> None:
        """Nothing is made."""

    def labels(self, split: str, index: int, *, first_frame: int, frames: int) -> np.ndarray:
        everything = item_generator(0, 0, index, split).integers(self.clusters, size=10_000)
        return everything[first_frame : first_frame + frames]


def write_audio(folder: Path, *, seed: int = 1) -> Path:
    """Write 8 training and 8 validation files of 1 to 2 s; return the folder."""
    for split in ("train", "valid"):
        (folder / split).mkdir(parents=True)
        for number, seconds in enumerate(SECONDS):
            draw = item_generator(seed, 0, number, split)
            time = np.arange(round(16_000 * seconds)) / 16_000
            wave = 0.2 * np.sin(2 * np.pi * (200 + 150 * number) * time)
            wave += 0.05 * draw.normal(size=len(time))
            soundfile.write(folder / split / f"{number}.wav", wave, 16_000)
    return folder


def pretraining(audio: Path, **sections: dict[str, Any]) -> RunConfig:
    """Return a tiny run of HuBERT; sections are merged into it."""
    values: dict[str, dict[str, Any]] = {
        "data": {
            "kind": "unlabelled", "train": str(audio / "train"), "valid": str(audio / "valid"),
            "min_s": 0.5, "max_s": 4.0,
        },
        "model": {"kind": "hubert", "final_dim": 8, **ENCODER},
        "loss": {"kind": "hubert", "clusters": 10, "mask_length": 4},
        "batch": {"items": 8, "micro_batch": 8},
        "optimizer": {"clip_norm": 0.0},
        "validation": {"training_items": 2},
        "precision": {"device": "cpu", "threads": 1},
    }  # fmt: skip
    for name, section in sections.items():
        values[name] = {**values.get(name, {}), **section}
    return load_config(values)
