"""The stages of a recipe as the trainer runs them before the first update; can kill this process at a step."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch

from engine.checkpoints.recipe_files import RecipeState
from engine.recipes.base import Stage
from engine.training.ranks import Alone
from engine.training.stages import Stages

RecipeT = TypeVar("RecipeT", bound=Any)


class Control:
    """Asks to stop after so many questions."""

    def __init__(self, after: float = float("inf")) -> None:
        self.after = after

    def stop_reason(self) -> str | None:
        self.after -= 1
        return "asked to stop" if self.after < 0 else None


def run_stages(
    recipe: RecipeT, config: Any, folder: Path, *, stop_after: float = float("inf"),
    known: Mapping[str, RecipeState] | None = None, prepare: Callable[[RecipeT], None] | None = None,
) -> tuple[str | None, RecipeT, Stages, list[Any]]:  # fmt: skip
    """Run the stages; return why they stopped, the recipe, the stages, and the events.

    Args:
        recipe: has them.
        config: of the run.
        folder: of the run.
        stop_after: how many questions.
        known: results of stages that are there already.
        prepare: is given the recipe before.
    """
    if prepare is not None:
        prepare(recipe)
    events: list[Any] = []
    stages = Stages(
        recipe, config, folder=folder, device=torch.device("cpu"), ranks=Alone(),
        control=Control(stop_after), emit=events.append,
    )  # fmt: skip
    return stages.run(known or {}, resume=True), recipe, stages, events


def dies_at(recipe: Any, stage: str, step: int) -> None:
    """Let a recipe kill this process after a step of a stage, which saves at every step until then."""
    made = recipe.stages

    def dying() -> list[Stage]:
        stages: list[Stage] = made()
        for one in stages:
            one.save_every_s = 0.0
            if one.name == stage:
                one.step = _dying_step(one.step, step)  # type: ignore[method-assign]
        return stages

    recipe.stages = dying


def _dying_step(inner: Any, step: int) -> Any:
    def walk(index: int, state: Any, *, device: torch.device) -> Any:
        after = inner(index, state, device=device)
        if index == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return after

    return walk
