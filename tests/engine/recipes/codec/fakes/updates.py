"""Updates of codecs, by one process or several; each is one in which codes are revived."""

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
from engine.recipes.codec.recipe import CodecRecipe
from engine.recipes.registry import open_recipe
from engine.training.ranks import Ranks
from tests.ranks import take_part
from tests.updates import SPLITS, limit_memory, make_update

CPU = torch.device("cpu")


def update(
    config: RunConfig, name: str, *, ranks: Ranks | None = None, fits: int | None = None
) -> dict[str, Any]:
    """Make an update in float64; `weights` of what it came to has the codebook, too."""
    recipe = open_recipe(config, opening=Opening(Path("run")))
    assert isinstance(recipe, CodecRecipe)
    (stage,) = recipe.stages()
    state = stage.start()
    for index in range(stage.num_steps()):
        state = stage.step(index, state, device=CPU)
    recipe.use(stage.name, stage.finish(state))
    if fits is not None:
        limit_memory(recipe, fits, "step")
    torch.manual_seed(0)
    model = recipe.build_model()
    recipe.start_state(model, CPU)
    model = model.double().train()
    rank, world = (ranks.rank, ranks.world) if ranks else (0, 1)
    batches = []
    for items in SPLITS[name][rank::world]:
        draws = tuple(ItemDraw(2, index) for index in items)
        tensors = recipe.fetch("train", MicroBatch(draws, (0.3,))).tensors
        batches.append(Batch({key: tensor.double() for key, tensor in tensors.items()}))
    made = make_update(recipe, model, batches, config=config, ranks=ranks, lr=1e-3, number=10)
    weights = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    return {**made, "weights": weights}


def work(ranks: Ranks, folder: Path, configs: str) -> dict[str, dict[str, Any]]:
    """Make the updates of every config; memory is short on the last process."""
    found = {}
    for kind, values in json.loads(configs).items():
        config = load_config(values)
        found[kind] = {name: update(config, name, ranks=ranks) for name in SPLITS}
        fits = 1 if ranks.rank == ranks.world - 1 else None
        found[kind]["short"] = update(config, "even", ranks=ranks, fits=fits)
    return found


if __name__ == "__main__":
    take_part(work)
