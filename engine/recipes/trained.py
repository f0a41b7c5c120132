"""A trained recipe: the task, its network and all that it keeps beside the weights, from a checkpoint."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from engine.checkpoints.files import CheckpointError, read_manifest
from engine.checkpoints.find import config_of, fill, find_checkpoint
from engine.checkpoints.recipe_files import read_recipe_parts
from engine.recipes.base import KeepsState, Recipe, RunsStages
from engine.recipes.own_state import load_own_state
from engine.recipes.registry import open_recipe

CPU = torch.device("cpu")


def load_trained(path: Path) -> tuple[Recipe, nn.Module]:
    """Return the recipe of a checkpoint with its stages' results and its state, and the network.

    Both are on the CPU, the network is in evaluation mode. No stage is run, and no other run is needed.

    Raises:
        CheckpointError: when there is no checkpoint, it is damaged, or does not match the recipe.
    """
    manifest = read_manifest(find_checkpoint(path))
    recipe = open_recipe(config_of(manifest))
    parts = read_recipe_parts(manifest)
    if isinstance(recipe, RunsStages):
        for name, result in parts.stages.items():
            recipe.use(name, result)
    model = recipe.build_model()
    fill(model, manifest)
    if isinstance(recipe, KeepsState):
        recipe.start_state(model, CPU)
    try:
        load_own_state(recipe, parts.state)
    except (RuntimeError, ValueError) as error:
        raise CheckpointError(
            f"{manifest.folder} does not match the installed recipe: {error}"
        ) from error
    return recipe, model.eval()
