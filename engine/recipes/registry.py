"""From a config to its recipe: the one place that knows every task."""

from __future__ import annotations

from engine.config.schema import RunConfig
from engine.recipes.base import Opening, Recipe


def open_recipe(config: RunConfig, *, opening: Opening | None = None) -> Recipe:
    """Return the recipe that the data of `config` are for.

    Args:
        config: the run.
        opening: the run's folder and the runs it needs; the built-in recipes use neither.
    """
    match config.data.recipe:
        case "separation":
            from engine.recipes.separation.recipe import SeparationRecipe

            return SeparationRecipe(config)
        case "transducer":
            from engine.recipes.transducer.recipe import TransducerRecipe

            return TransducerRecipe(config)
    raise AssertionError(f"no recipe is named {config.data.recipe!r}")
