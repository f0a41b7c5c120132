"""Giving a recipe back what it keeps beyond the weights, checked by name."""

from __future__ import annotations

from collections.abc import Iterable

from engine.checkpoints.recipe_files import RecipeState
from engine.recipes.base import KeepsState, Recipe


def load_own_state(recipe: Recipe, state: RecipeState | None) -> None:
    """Let a recipe take its state, as a checkpoint holds it; the recipe's state has been started.

    Raises:
        ValueError: when it lacks something, or holds something the recipe has no use for, by name.
    """
    if not isinstance(recipe, KeepsState):
        if state is not None:
            named = _list([*state.tensors, *state.values]) or "an empty state"
            raise ValueError(f"it holds state that the recipe does not keep: {named}")
        return
    wanted = recipe.state_dict()
    if state is None:
        raise ValueError(
            f"it holds no state of the recipe, which keeps: {_list([*wanted.tensors, *wanted.values])}"
        )
    missing = (wanted.tensors.keys() - state.tensors) | (wanted.values.keys() - state.values)
    odd = (state.tensors.keys() - wanted.tensors) | (state.values.keys() - wanted.values)
    if missing or odd:
        parts = [
            f"{what}: {_list(names)}"
            for what, names in (("it lacks", missing), ("it has no use for", odd))
            if names
        ]
        raise ValueError(f"the state of the recipe is another one; {'; '.join(parts)}")
    recipe.load_state_dict(state)


def _list(names: Iterable[str]) -> str:
    names = sorted(names)
    more = f" and {len(names) - 6} more" if len(names) > 6 else ""
    return ", ".join(names[:6]) + more
