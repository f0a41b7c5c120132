"""Updates of the recipes that learn without labels, by one process or several."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from engine.batching.batch import Batch
from engine.batching.items import ItemDraw, MicroBatch
from engine.config.hubert import HubertLoss
from engine.config.loading import load_config
from engine.config.schema import RunConfig
from engine.recipes.base import KeepsState, LooksAhead
from engine.recipes.datasets import Datasets
from engine.recipes.registry import open_recipe
from engine.recipes.self_supervised.hubert import HubertRecipe
from engine.recipes.whole_update import BeginsSteps
from engine.training.ranks import Ranks
from tests.pretraining import MadeUpTargets
from tests.ranks import take_part
from tests.updates import SPLITS, limit_memory, make_update

# Data2vec 2.0 without draws that depend on the items of a micro-batch.
STILL = {
    "prenet_dropout": 0.0, "dropout": 0.0, "attention_dropout": 0.0, "ffn_dropout": 0.0,
    "decoder_dropout": 0.0, "layer_drop": 0.0, "mask_noise": 0.0,
}  # fmt: skip


def opened(config: RunConfig) -> Any:
    """Open the recipe of a run; the labels of HuBERT are made up, so that no stage has to make them."""
    if isinstance(config.loss, HubertLoss):
        targets = MadeUpTargets(config.loss.clusters)
        return HubertRecipe(config, datasets=Datasets(config), targets=targets)
    return open_recipe(config)


def update(
    config: RunConfig,
    name: str,
    *,
    ranks: Ranks | None = None,
    fits: int | None = None,
    where: str = "step",
) -> dict[str, Any]:
    """Make an update in float64; `state` of what it came to has what the recipe keeps beside the weights."""
    recipe: Any = opened(config)
    if fits is not None:
        limit_memory(recipe, fits, where)
    torch.manual_seed(0)
    model = recipe.build_model().double().train()
    if isinstance(recipe, KeepsState):
        recipe.start_state(model, torch.device("cpu"))
    # All items are cropped to the shortest, or padded to more than the longest.
    shape = (0.48,) if config.data.fit == "crop" else (1.3,)
    rank, world = (ranks.rank, ranks.world) if ranks else (0, 1)
    batches = []
    for items in SPLITS[name][rank::world]:
        draws = tuple(ItemDraw(2, index) for index in items)
        tensors = recipe.fetch("train", MicroBatch(draws, shape)).tensors
        batches.append(Batch({**tensors, "wave": tensors["wave"].double()}))
    # A rate: what follows the weights, as a teacher does, has to move.
    made = make_update(recipe, model, batches, config=config, ranks=ranks, lr=1e-3)
    state = list(recipe.state_dict().tensors.values()) if isinstance(recipe, KeepsState) else []
    return {**made, "state": state}


def work(ranks: Ranks, folder: Path, configs: str) -> dict[str, dict[str, Any]]:
    """Make the updates of every config; memory is short on the last process, where it looks if it does."""
    found = {}
    for kind, values in json.loads(configs).items():
        config = load_config(values)
        found[kind] = {name: update(config, name, ranks=ranks) for name in SPLITS}
        recipe = opened(config)
        # With one micro-batch each, what can begin with it looks at nothing.
        looks = "begin" if isinstance(recipe, BeginsSteps) else "look"
        where = looks if isinstance(recipe, LooksAhead) else "step"
        fits = 1 if ranks.rank == ranks.world - 1 else None
        found[kind]["short"] = update(config, "even", ranks=ranks, fits=fits, where=where)
    return found


if __name__ == "__main__":
    take_part(work)
