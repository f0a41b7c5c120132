"""The toy's recipe, as everything but the trainer sees it."""

from __future__ import annotations

from engine.metrics.registry import Metric
from engine.recipes.specs import RecipeSpec

RECIPE = RecipeSpec(
    name="masked_toy",
    title="masked prediction of made-up frames",
    opens="masked_toy.recipe:open_masked_toy",
    # The other training metric is left undeclared.
    metrics=(Metric("toy_accuracy", "toy accuracy", unit="%", scale=100, of_training=True),),
)
