"""What a recipe keeps beyond the weights, as a checkpoint carries it: tensors and JSON.

Owns two files of a checkpoint: `recipe.safetensors` holds `state.<name>` and `stage.<stage>.<name>`,
`recipe.json` the values of both. Checkpoints of recipes that keep nothing have neither.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from engine.checkpoints.files import Manifest

RECIPE = "recipe.safetensors"
RECIPE_VALUES = "recipe.json"


@dataclass(frozen=True, slots=True)
class RecipeState:
    """Tensors and JSON values by name."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RecipeParts:
    """All that a recipe has in a checkpoint: its own state, None where it keeps none, and stages' results."""

    state: RecipeState | None = None
    stages: dict[str, RecipeState] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Return whether anything is to be saved."""
        return self.state is not None or bool(self.stages)

    def tensors(self) -> dict[str, Tensor]:
        """Return the content of `recipe.safetensors` (no copies)."""
        own = {} if self.state is None else self.state.tensors
        return {
            **{f"state.{name}": tensor for name, tensor in own.items()},
            **{
                f"stage.{stage}.{name}": tensor
                for stage, result in self.stages.items()
                for name, tensor in result.tensors.items()
            },
        }

    def values(self) -> dict[str, Any]:
        """Return the content of `recipe.json`."""
        return {
            "state": None if self.state is None else self.state.values,
            "stages": {stage: result.values for stage, result in self.stages.items()},
        }


def read_recipe_parts(manifest: Manifest) -> RecipeParts:
    """Return what a checkpoint holds of its recipe, on the CPU; nothing if it has no such files."""
    if RECIPE_VALUES not in manifest.values["files"]:
        return RecipeParts()
    values: dict[str, Any] = json.loads((manifest.folder / RECIPE_VALUES).read_text())
    tensors = manifest.tensors(RECIPE)
    state = None
    if values["state"] is not None:
        state = RecipeState(_below(tensors, "state."), values["state"])
    stages = {
        stage: RecipeState(_below(tensors, f"stage.{stage}."), result)
        for stage, result in values["stages"].items()
    }
    return RecipeParts(state, stages)


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
