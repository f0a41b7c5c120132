"""Loading the state that a recipe keeps beyond the weights, checked by name."""

from __future__ import annotations

from collections.abc import Iterable

from engine.checkpoints.recipe_files import RecipeState
from engine.recipes.base import KeepsState, Recipe


def load_own_state(recipe: Recipe, state: RecipeState | None) -> None:
    """Load the state of a checkpoint into a recipe whose state has been started.

    Raises:
        ValueError: naming missing and unexpected state.
    """
    if not isinstance(recipe, KeepsState):
        if state is not None:
            named = _list([*state.tensors, *state.values]) or "an empty state"
            raise ValueError(f"unexpected recipe state: {named}")
        return
    wanted = recipe.state_dict()
    if state is None:
        raise ValueError(f"missing recipe state: {_list([*wanted.tensors, *wanted.values])}")
    missing = (wanted.tensors.keys() - state.tensors) | (wanted.values.keys() - state.values)
    odd = (state.tensors.keys() - wanted.tensors) | (state.values.keys() - wanted.values)
    if missing or odd:
        parts = [
            f"{what}: {_list(names)}"
            for what, names in (("missing", missing), ("unexpected", odd))
            if names
        ]
        raise ValueError(f"recipe state differs; {'; '.join(parts)}")
    recipe.load_state_dict(state)


def _list(names: Iterable[str]) -> str:
    names = sorted(names)
    more = f" and {len(names) - 6} more" if len(names) > 6 else ""
    return ", ".join(names[:6]) + more
