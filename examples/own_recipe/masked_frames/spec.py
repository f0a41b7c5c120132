"""The recipe as everything but the trainer sees it. No torch here: `opens` names where the code is."""

from __future__ import annotations

from engine.metrics.registry import Metric
from engine.recipes.specs import RecipeSpec

RECIPE = RecipeSpec(
    name="masked_frames",
    title="self-supervised prediction of hidden frames",
    opens="masked_frames.recipe:MaskedFrames",
    metrics=(Metric("visible_error", "error of visible frames", rises=False, of_training=True),),
    headline="val_loss",
    gives_features=False,
)
