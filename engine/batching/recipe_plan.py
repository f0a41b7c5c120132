"""The plan of a recipe's training items: what a recipe tells `open_plan`."""

from __future__ import annotations

from typing import Literal, Protocol, runtime_checkable

import numpy as np

from engine.batching.open_plan import open_plan
from engine.batching.plan import Plan
from engine.config.schema import RunConfig

_Split = Literal["train", "valid"]


class _HasItems(Protocol):
    """What every recipe tells (`engine.recipes.base.Recipe`)."""

    def sizes(self, split: _Split) -> np.ndarray:
        """Return (N, D) item sizes."""

    def manifest(self, split: _Split) -> str:
        """Return a hash of the files of a split."""


@runtime_checkable
class GroupsItems(Protocol):
    """A recipe that knows which of its items belong together, such as the pieces of one recording."""

    def groups(self, split: _Split) -> np.ndarray:
        """Return (N,) int64, equal for items that should not meet in one update."""


def plan_of(config: RunConfig, recipe: _HasItems, *, rank: int = 0, world: int = 1) -> Plan:
    """Return the plan of a run for one of its devices.

    Raises:
        PlanError: when the settings of `batch` don't fit the sizes.
    """
    return open_plan(
        config,
        recipe.sizes("train"),
        manifest=recipe.manifest("train"),
        groups=recipe.groups("train") if isinstance(recipe, GroupsItems) else None,
        rank=rank,
        world=world,
    )
