"""Makes the targets of a folder of audio, as the trainer would; can kill itself at a step.

`python make_targets.py RUN_FOLDER AUDIO_FOLDER [STAGE STEP]`
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import soundfile
import torch

from engine.config.targets import TargetSettings
from engine.recipes.base import Opening, Stage
from engine.recipes.self_supervised import target_features
from engine.recipes.self_supervised.targets import Targets
from engine.training.stages import Stages
from models.self_supervised.settings import HubertConfig
from tests.staged import dies_at, run_stages

RATE_HZ = 16_000


class Folder:
    """The files of a folder as items."""

    def __init__(self, folder: Path) -> None:
        self.paths = sorted(folder.glob("*.wav"))
        self.read: list[int] = []

    def __len__(self) -> int:
        return len(self.paths)

    def durations_s(self) -> np.ndarray:
        return np.array([soundfile.info(path).frames / RATE_HZ for path in self.paths])

    def key(self, index: int) -> str:
        return self.paths[index].name

    def files(self, index: int) -> list[str]:
        return [str(self.paths[index])]

    def audio(self, index: int) -> np.ndarray:
        self.read.append(index)
        samples_T, _ = soundfile.read(self.paths[index], dtype="float32")
        return samples_T


class Config:
    """As much of a config as stages and targets ask for."""

    def __init__(self, **loss: Any) -> None:
        values = {"clusters": 12, "frames_per_cluster": 20, "kmeans_starts": 2, **loss}
        self.loss = TargetSettings(**values)
        self.seed = 3
        self.model = HubertConfig()
        self.data = SimpleNamespace(rate_hz=RATE_HZ)
        self.batch = SimpleNamespace(mode="fixed")

    def to_dict(self) -> dict[str, Any]:
        return {"loss": self.loss.model_dump(mode="json")}


class Recipe:
    """Has targets and nothing else."""

    def __init__(self, config: Config, folder: Path, *, audio: Path, needs: Any = None) -> None:
        self.data = {split: Folder(audio / split) for split in ("train", "valid")}
        opening = Opening(folder, needs or {})
        self.targets = Targets(config, opening, items=self.data.__getitem__)  # type: ignore[arg-type]

    def manifest(self, split: str) -> str:
        return "the same"

    def stages(self) -> list[Stage]:
        return self.targets.stages()

    def use(self, stage: str, result: Any) -> None:
        self.targets.use(stage, result)


def make(
    folder: Path, audio: Path, *, config: Any = None, needs: Any = None, **how: Any
) -> tuple[str | None, Recipe, Stages, list[Any]]:
    """Run the stages, as `run_stages`."""
    config = config or Config()
    recipe = Recipe(config, folder, audio=audio, needs=needs)
    return run_stages(recipe, config, folder, **how)


def main() -> None:
    """Make targets in short steps, so that there are many to die in."""
    target_features.MfccSource.chunk_s = 0.5
    torch.set_num_threads(1)
    folder, audio, *death = sys.argv[1:]
    prepare = None
    if death:
        prepare = lambda recipe: dies_at(recipe, death[0], int(death[1]))  # noqa: E731
    make(Path(folder), Path(audio), prepare=prepare)


if __name__ == "__main__":
    main()
