"""Updates of voices, by one process or several."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from engine.batching.batch import Batch
from engine.batching.items import ItemDraw, MicroBatch
from engine.config.loading import load_config
from engine.config.schema import RunConfig
from engine.recipes.base import Opening
from engine.recipes.registry import open_recipe
from engine.recipes.voice.recipe import VoiceRecipe
from engine.training.ranks import Ranks
from models.voice.network import VoiceModel
from tests.ranks import take_part
from tests.updates import SPLITS, limit_memory, make_update

CPU = torch.device("cpu")


def opened(config: RunConfig, folder: Path, **needs: Path) -> tuple[VoiceRecipe, VoiceModel]:
    """Return a recipe with the results of its stages, and its model, which attends."""
    checkpoints = {"codec": Path(str(config.codec)), **needs}
    recipe = open_recipe(config, opening=Opening(folder, checkpoints))
    assert isinstance(recipe, VoiceRecipe)
    for stage in recipe.stages():
        state, count = stage.start(), stage.num_steps()
        for index in range(count):
            state = stage.step(index, state, device=CPU)
        recipe.use(stage.name, stage.finish(state))
    torch.manual_seed(0)
    model = recipe.build_model()
    with torch.no_grad():
        for param in model.parameters():
            param.add_(0.1 * torch.randn_like(param))
    return recipe, model


def update(
    config: RunConfig,
    name: str,
    folder: Path,
    *,
    ranks: Ranks | None = None,
    fits: int | None = None,
) -> dict[str, Any]:
    """Make an update in float64."""
    recipe, model = opened(config, folder)
    if fits is not None:
        limit_memory(recipe, fits, "step")
    model = model.double().train()
    rank, world = (ranks.rank, ranks.world) if ranks else (0, 1)
    batches = []
    for items in SPLITS[name][rank::world]:
        draws = tuple(ItemDraw(2, index) for index in items)
        tensors = recipe.fetch("train", MicroBatch(draws)).tensors
        batches.append(
            Batch({key: t.double() if t.is_floating_point() else t for key, t in tensors.items()})
        )
    return make_update(recipe, model, batches, config=config, ranks=ranks)


def work(ranks: Ranks, folder: Path, values: str) -> dict[str, dict[str, Any]]:
    """Make the updates; memory is short on the last process."""
    config, own = load_config(json.loads(values)), folder / f"run-{ranks.rank}"
    found = {name: update(config, name, own, ranks=ranks) for name in SPLITS}
    fits = 1 if ranks.rank == ranks.world - 1 else None
    return {**found, "short": update(config, "even", own, ranks=ranks, fits=fits)}


if __name__ == "__main__":
    take_part(work)
