"""What a recipe keeps beyond the weights, as a part of the state of a training run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from engine.checkpoints.files import Manifest
from engine.checkpoints.recipe_files import (
    RECIPE,
    RECIPE_VALUES,
    RecipeParts,
    RecipeState,
    read_recipe_parts,
)
from engine.recipes.base import KeepsState, Recipe
from engine.recipes.own_state import load_own_state


class OwnParts:
    """The recipe's state, which moves, and its stages' results, which don't; both travel in checkpoints."""

    def __init__(self, recipe: Recipe, stages: Mapping[str, RecipeState]) -> None:
        self._recipe = recipe
        self._keeper = recipe if isinstance(recipe, KeepsState) else None
        self._stages = dict(stages)

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors that move, by name (no copies)."""
        return {} if self._keeper is None else self._keeper.state_dict().tensors

    def files(
        self, copies: Mapping[str, Tensor]
    ) -> tuple[dict[str, dict[str, Tensor]], dict[str, dict[str, Any]]]:
        """Return what a checkpoint holds of the recipe: files of tensors, and of JSON.

        Args:
            copies: those of `tensors()`; results of stages need none.
        """
        state = None
        if self._keeper is not None:
            # A copy, since the recipe goes on while the file is written.
            values = json.loads(json.dumps(self._keeper.state_dict().values))
            state = RecipeState(dict(copies), values)
        parts = RecipeParts(state, self._stages)
        if not parts:
            return {}, {}
        return {RECIPE: parts.tensors()}, {RECIPE_VALUES: parts.values()}

    def restore(self, manifest: Manifest) -> None:
        """Take the state from a checkpoint.

        Raises:
            ValueError: naming missing and unexpected state.
        """
        parts = read_recipe_parts(manifest)
        odd = sorted(parts.stages.keys() - self._stages.keys())
        if odd:
            raise ValueError(f"results of stages that the recipe does not have: {', '.join(odd)}")
        load_own_state(self._recipe, parts.state)
