"""Makes the codes of a data set as a recipe that learns them would; can kill itself at a step.

`python make_codes.py RUN_FOLDER CODEC DATA [STEP]`; DATA is a folder with `train` and `valid`, or with
`train.jsonl` and `valid.jsonl` where items have texts.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import torch

from engine.config.speech import SpeechData
from engine.config.unlabelled import UnlabelledData
from engine.data.speech.utterances import SpeechDataset
from engine.data.unlabelled.dataset import UnlabelledDataset
from engine.recipes.base import Opening, Stage
from engine.recipes.codec import item_codes
from engine.recipes.codec.item_codes import CodesStage, ItemCodes
from engine.training.stages import Stages
from tests.staged import dies_at, run_stages

RATE = 8_000


class Config:
    """As much of a config as stages and codes ask for."""

    # It declares no settings, so no reference to a run, either.
    model_fields: ClassVar[dict[str, Any]] = {}

    def __init__(self, folder: Path, **values: Any) -> None:
        sides = {split: folder / split for split in ("train", "valid")}
        if (folder / "train.jsonl").exists():
            sides = {split: folder / f"{split}.jsonl" for split in sides}
            self.data: Any = SpeechData(rate_hz=RATE, min_s=0.1, **sides)
        else:
            self.data = UnlabelledData(rate_hz=RATE, min_s=0.2, max_s=1.0, **sides)
        self.codec: str | None = "codec"
        self.init_from: str | None = None
        self.init_strict = True
        self.seed = 3
        self.batch = SimpleNamespace(mode="fixed")
        self.__dict__.update(values)

    def to_dict(self) -> dict[str, Any]:
        return {"codec": self.codec}

    def open(self, split: Any) -> Any:
        dataset = SpeechDataset if isinstance(self.data, SpeechData) else UnlabelledDataset
        return dataset(self.data, split)


class Recipe:
    """Has codes and nothing else."""

    def __init__(self, config: Config, folder: Path, *, needs: Any) -> None:
        self.items: dict[str, Any] = {}
        self.read: list[tuple[str, int]] = []
        self._config = config
        opening = Opening(folder, needs)
        self.codes = ItemCodes(config, opening, items=self._items)  # type: ignore[arg-type]

    def _items(self, split: Any) -> Any:
        if split not in self.items:
            self.items[split] = self._opened(split)
        return self.items[split]

    def _opened(self, split: Any) -> Any:
        items = self._config.open(split)
        inner = items.audio

        def audio(index: int) -> Any:
            self.read.append((split, index))
            return inner(index)

        items.audio = audio
        return items

    def manifest(self, split: str) -> str:
        return "the same"

    def stages(self) -> list[Stage]:
        return self.codes.stages()

    def use(self, stage: str, result: Any) -> None:
        self.codes.use(stage, result)


def make(
    folder: Path,
    data: Path,
    *,
    codec: Path | None,
    config: Any = None,
    needs: Any = None,
    **how: Any,
) -> tuple[str | None, Recipe, Stages, list[Any]]:
    """Run the stages, as `run_stages`."""
    config = config or Config(data)
    recipe = Recipe(config, folder, needs={**({"codec": codec} if codec else {}), **(needs or {})})
    return run_stages(recipe, config, folder, **how)


def main() -> None:
    """Make codes in short steps, so that there are many to die in."""
    item_codes._STEP_S = 0.1
    torch.set_num_threads(1)
    folder, codec, data, *death = sys.argv[1:]
    prepare = (lambda recipe: dies_at(recipe, CodesStage.name, int(death[0]))) if death else None
    make(Path(folder), Path(data), codec=Path(codec), prepare=prepare)


if __name__ == "__main__":
    main()
