"""From a config to its recipe."""

from __future__ import annotations

from engine.config.schema import RunConfig
from engine.recipes.base import Opening, Recipe
from engine.recipes.specs import spec_of


def open_recipe(config: RunConfig, *, opening: Opening | None = None) -> Recipe:
    """Return the recipe for the loss of `config` belongs to.

    Args:
        config: the run.
        opening: the run's folder and the runs it needs; the built-in recipes use neither.

    Raises:
        ConfigError: when no installed package has the recipe.
    """
    recipe: Recipe = spec_of(config.recipe).open(config, opening=opening or Opening())
    return recipe
