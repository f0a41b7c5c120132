"""Training and judging two speakers: the order of the estimates means nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch import nn

from engine.batching.items import ItemDraw, MicroBatch
from engine.config.loading import load_config
from engine.config.schema import RunConfig
from engine.recipes.base import StepContext
from engine.recipes.separation.recipe import SeparationRecipe
from engine.training.trainer import Trainer

FindData = Callable[[str], Path]


class Oracle(nn.Module):
    """Puts out what it was told, in the order it was told."""

    def __init__(self, answers: list[torch.Tensor], *, swapped: bool) -> None:
        super().__init__()
        self.answers = answers
        self.swapped = swapped

    def forward(self, mix_BCT: torch.Tensor) -> torch.Tensor:
        answer = self.answers.pop(0)
        return answer.flip(1) if self.swapped else answer


def run_config(folder: Path, **sections: object) -> RunConfig:
    data = {
        "kind": "speakers", "train": str(folder), "valid": str(folder), "rate_hz": 8000,
        "segment_s": 0.1, "held_out": "0*",
    }  # fmt: skip
    return load_config({"data": data, "validation": {"batch_items": 1}, **sections})


@pytest.fixture
def people(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    for person in ("ada", "bob"):
        (tmp_path / person).mkdir()
        for take in range(3):
            samples = 0.1 * draw.standard_normal(1200)
            soundfile.write(tmp_path / person / f"{take}.wav", samples, 8000, subtype="FLOAT")
    return tmp_path


@pytest.mark.parametrize(
    "loss", [{"kind": "si_sdr"}, {"kind": "l1"}, {"kind": "spectral", "windows": [64]}]
)
def test_swapped_estimates_are_judged_alike(people: Path, loss: dict[str, Any]) -> None:
    recipe = SeparationRecipe(run_config(people, loss=loss))
    items = [
        recipe.fetch("valid", MicroBatch((ItemDraw(0, index),))).tensors["target"]
        for index in range(2)
    ]
    noisy = [target + 0.01 * torch.randn_like(target) for target in items]
    plain, swapped = (
        recipe.evaluate(Oracle(list(noisy), swapped=swap), torch.device("cpu")).metrics
        for swap in (False, True)
    )
    assert plain == swapped
    assert plain["si_sdr"] > 15


def test_training_loss_is_that_of_the_better_order(people: Path) -> None:
    recipe = SeparationRecipe(run_config(people, loss={"kind": "l1"}))
    batch = recipe.fetch("train", MicroBatch((ItemDraw(0, 0), ItemDraw(0, 1))))
    target = batch.tensors["target"]
    for swap in (False, True):
        out = recipe.step(Oracle([target + 0.25], swapped=swap), batch, context=StepContext())
        assert float(out.loss_sum) == pytest.approx(0.5)
        assert float(out.weight) == 2


@pytest.mark.slow
def test_two_speakers_of_real_digits_come_apart(
    shared_data: FindData, tmp_path: Path, recorder: object, stop_after: Callable[[], object]
) -> None:
    """A few updates already undo the start, where the mixture is put out for both."""
    digits = shared_data("digits")
    config = run_config(
        digits,
        model={"kind": "conv_tasnet", "features": 64, "mask_features": 32, "mask_hidden": 64,
               "mask_layers": 5, "mask_stacks": 1},
        batch={"items": 4, "micro_batch": 4}, loss={"kind": "si_sdr"}, optimizer={"lr": 3e-3},
        schedule={"length": "80 updates"}, ema={"enabled": False},
        checkpoint={"best": ["si_sdr"]},
        validation={"every": "80 updates", "max_items": 12, "segment_s": 1.0, "batch_items": 1},
        precision={"device": "cpu", "threads": 1},
    )  # fmt: skip
    data = config.data.model_copy(update={"segment_s": 0.4, "held_out": "*_0[0-4].flac"})
    config = config.model_copy(update={"data": data})
    recipe = SeparationRecipe(config)
    Trainer(
        config,
        recipe,
        folder=tmp_path,
        observers=[recorder],
        control=stop_after(),  # type: ignore[list-item, arg-type]
    ).fit()
    from engine.events import Evaluated

    scores = [event.metrics["si_sdri"] for event in recorder.of(Evaluated)]  # type: ignore[attr-defined]
    assert scores[-1] > 0.3
