"""A voice scores training items as it scores validation items."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.recipes.base import Opening
from engine.recipes.registry import open_recipe
from tests.engine.recipes.voice.fakes.updates import opened
from tests.scored import (
    check_equal_items_score_alike,
    check_nothing_is_taken_for_another,
    check_nothing_moves,
    with_valid,
)


@pytest.fixture
def tools(new_recorder: Any, stop_after: Any, checkpoint_tensors: Any) -> dict[str, Any]:
    return {"recorder": new_recorder, "stop": stop_after, "tensors": checkpoint_tensors}


def test_training_items_score_as_the_same_ones_in_validation(
    tmp_path: Path, make: Any, codec: Path, tools: Any
) -> None:
    config = make()
    same = with_valid(config, Path(config.data.train))
    recipe = open_recipe(same, opening=Opening(tmp_path, {"codec": codec}))
    check_equal_items_score_alike(same, recipe, tmp_path, tools)


def test_nothing_is_taken_for_another(tmp_path: Path, make: Any) -> None:
    config = make(validation={"spoken": 0, "clips": 0})
    recipe, model = opened(config, tmp_path)
    fresh, _ = opened(config, tmp_path)
    check_nothing_is_taken_for_another(recipe, fresh, model)


def test_scoring_training_items_moves_nothing(
    tmp_path: Path, make: Any, codec: Path, tools: Any
) -> None:
    def opened(config: Any) -> Any:
        folder = tmp_path / str(config.validation.training_items)
        return open_recipe(config, opening=Opening(folder, {"codec": codec}))

    check_nothing_moves(make(), opened, tmp_path, tools)
