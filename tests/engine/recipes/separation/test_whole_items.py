"""Training on items of their own length: padded to a shape, judged without the padding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import nn

from engine.batching.items import ItemDraw, MicroBatch
from engine.config.errors import ConfigError
from engine.config.losses import L1Loss, SiSdrLoss, SpectralLoss
from engine.data.update_size import mean_update_size
from engine.events import RunEnded
from engine.recipes.base import StepContext
from engine.recipes.separation.recipe import SeparationRecipe
from engine.training.trainer import Trainer

FRAMES = (3_000, 8_000, 5_000, 12_345, 4_000)


class Halves(nn.Module):
    """Says that every source is half of the mixture; what follows an item is far from silence."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(0.5))

    def forward(self, mix_BCT: torch.Tensor) -> torch.Tensor:
        return torch.where(mix_BCT == 0, 9.0, mix_BCT * self.gain)[:, None]


@pytest.fixture
def whole_config(make_config, tmp_path: Path):
    """A run on tracks of five lengths, the longest more than a segment of 1 s."""
    random = np.random.default_rng(0)
    for track, frames in enumerate(FRAMES):
        for stem in ("voice", "percussion", "noise"):
            path = tmp_path / "train" / str(track) / f"{stem}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, random.uniform(0.1, 0.2, frames), 8_000)

    def build(**batch):
        data = {"train": str(tmp_path / "train"), "segment_s": 1.0, "short_files": "whole"}
        return make_config(data=data, batch=batch, schedule={"length": "4 updates"})

    return build


@pytest.mark.parametrize("loss", ["si_sdr", "spectral", "l1"])
def test_padding_does_not_count(whole_config, loss: str) -> None:
    losses = {"si_sdr": SiSdrLoss(), "spectral": SpectralLoss(), "l1": L1Loss()}
    config = whole_config().model_copy(update={"loss": losses[loss]})
    recipe = SeparationRecipe(config)
    sizes = recipe.sizes("train")[:, 0]
    assert sizes.tolist() == [0.375, 1.0, 0.625, 1.0, 0.5]
    draws = tuple(ItemDraw(0, index) for index in (0, 2, 4))
    together = recipe.fetch("train", MicroBatch(draws, (1.0,)))
    assert together.tensors["mix"].shape == (3, 1, 8_000)
    assert together.tensors["length"].tolist() == [3_000, 5_000, 4_000]
    alone = [
        recipe.fetch("train", MicroBatch((draw,), (float(sizes[draw.index]),))) for draw in draws
    ]
    assert [batch.tensors["mix"].shape[-1] for batch in alone] == [3_000, 5_000, 4_000]
    found = recipe.step(Halves(), together, context=StepContext())
    expected = sum(
        recipe.step(Halves(), batch, context=StepContext()).loss_sum.item() for batch in alone
    )
    assert found.loss_sum.item() == pytest.approx(expected, rel=1e-5)
    assert float(found.weight) == 3


@pytest.mark.parametrize("mode", ["exact", "duration"])
def test_whole_items_are_trained_by_any_plan(
    whole_config, recorder, stop_after, tmp_path: Path, mode: str
) -> None:
    config = whole_config(mode=mode, items=3, cap_s=2.0)
    Trainer(
        config,
        SeparationRecipe(config),
        folder=tmp_path / "run",
        observers=[recorder],
        control=stop_after(),
    ).fit()
    assert len(recorder.curve("loss")) == 4
    size = mean_update_size(config)
    trained = recorder.of(RunEnded)[0].counters
    assert 4 * size.items == pytest.approx(trained.items, rel=0.4)
    assert size.audio_seconds / size.items == pytest.approx(3.5 / 5)
    assert all(np.isfinite(list(recorder.curve("loss").values())))


def test_changed_stems_stay_segments(make_config) -> None:
    with pytest.raises(ConfigError, match="augmented stems"):
        make_config(data={"short_files": "whole", "remix": 0.5})
