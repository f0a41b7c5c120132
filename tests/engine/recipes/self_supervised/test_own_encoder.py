"""An encoder and a loss of a package under HuBERT: splitting and padding change nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from engine.batching.batch import Batch
from engine.batching.items import ItemDraw, MicroBatch
from engine.config.schema import RunConfig
from engine.config.waveform_fit import waveform_misfit
from engine.recipes.base import StepContext
from engine.recipes.datasets import Datasets
from engine.recipes.self_supervised.hubert import HubertRecipe
from tests.pretraining import MadeUpTargets, pretraining, write_audio


@pytest.fixture
def config(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunConfig:
    """A run with the encoder and the loss of `examples/`, as if they were installed."""
    for name in ("own_encoder", "own_loss"):
        monkeypatch.syspath_prepend(str(repository / "examples" / name))
    from mel_conformer.settings import MelHubert  # type: ignore[import-not-found]
    from more_losses.settings import FocalHubertLoss  # type: ignore[import-not-found]

    data = {"fit": "pad", "normalize_waveform": True}
    model = {"extractor_norm": "layer_norm", "layer_norm_first": True}
    built_in = pretraining(write_audio(tmp_path), data=data, model=model)
    own = MelHubert(
        layers=2, dim=16, heads=2, ffn=16, num_mels=16, kernel=5, dropout=0.0, final_dim=8,
        layer_drop=0.4,
    )  # fmt: skip
    loss = FocalHubertLoss(clusters=10, mask_length=4, unmasked_weight=0.3, normalize="separate")
    return built_in.model_copy(update={"model": own, "loss": loss})


def recipe_of(config: Any) -> HubertRecipe:
    targets = MadeUpTargets(config.loss.clusters)
    return HubertRecipe(config, datasets=Datasets(config), targets=targets)


def batch_of(recipe: HubertRecipe, *items: int, seconds: float = 2.0) -> Batch:
    batch = recipe.fetch("train", MicroBatch(tuple(ItemDraw(0, i) for i in items), (seconds,)))
    return Batch({**batch.tensors, "wave": batch.tensors["wave"].double()})


def gradients(recipe: HubertRecipe, batches: Sequence[Batch]) -> list[Tensor]:
    """Return the gradients of an update, and of its loss."""
    torch.manual_seed(0)
    model = recipe.build_model().double()
    context = StepContext(update=5)
    frames = sum(recipe.look(model, batch, context=context)["frames"] for batch in batches)
    outputs = [
        recipe.step(model, batch, context=StepContext(update=5, ahead={"frames": frames}))
        for batch in batches
    ]
    loss = sum(o.loss_sum for o in outputs) / sum(o.weight for o in outputs)
    loss.backward()
    found = [p.grad for p in model.parameters() if p.grad is not None]
    return [loss.detach(), *found]


def test_accumulation_is_one_batch(config: RunConfig) -> None:
    recipe = recipe_of(config)
    one = gradients(recipe, [batch_of(recipe, *range(8))])
    parts = [batch_of(recipe, 5), batch_of(recipe, 0, 3, 7, 1), batch_of(recipe, 2, 4, 6)]
    several = gradients(recipe, parts)
    scale = max(gradient.abs().max() for gradient in one)
    assert len(one) == len(several) > 20
    assert all((a - b).abs().max() <= 1e-6 * scale for a, b in zip(one, several, strict=True))


def test_padding_changes_no_number(config: RunConfig) -> None:
    recipe = recipe_of(config)
    short, long = (
        gradients(recipe, [batch_of(recipe, 0, 1, seconds=seconds)]) for seconds in (1.4, 3.5)
    )
    scale = max(gradient.abs().max() for gradient in short)
    assert all((a - b).abs().max() <= 1e-6 * scale for a, b in zip(short, long, strict=True))


def test_cross_entropies_are_curves_whatever_is_minimised(config: RunConfig) -> None:
    recipe = recipe_of(config)
    torch.manual_seed(0)
    model = recipe.build_model().double()
    batch = batch_of(recipe, 0, 1)
    plain = recipe_of(
        config.model_copy(update={"loss": config.loss.model_copy(update={"focus": 0.0})})
    )
    focal, entropy = (r.step(model, batch, context=StepContext()) for r in (recipe, plain))
    assert focal.metrics["masked_loss"] == entropy.metrics["masked_loss"]
    assert focal.loss_sum < entropy.loss_sum


def test_what_an_encoder_asks_of_its_waveforms_is_refused_with_the_reason(
    config: RunConfig,
) -> None:
    assert waveform_misfit(config.data, config.model) == ""
    other = config.data.model_copy(update={"rate_hz": 8_000})
    assert "'mel_hubert' makes a frame every 320 samples" in waveform_misfit(other, config.model)

    class Unpadded(type(config.model)):  # type: ignore[misc]
        takes_padding = False

    unpadded = Unpadded(**config.model.model_dump())
    assert "takes no padded items" in waveform_misfit(config.data, unpadded)
