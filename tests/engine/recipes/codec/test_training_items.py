"""A codec scores training items as it scores validation items."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.recipes.registry import open_recipe
from tests.scored import check_equal_items_score_alike, check_nothing_moves, with_valid


@pytest.fixture
def tools(new_recorder, stop_after, checkpoint_tensors):
    return {"recorder": new_recorder, "stop": stop_after, "tensors": checkpoint_tensors}


@pytest.mark.parametrize("quantiser", ["fsq", "vq"])
def test_training_items_score_as_the_same_ones_in_validation(tmp_path, make, tools, quantiser):
    config = make(model={"quantiser": quantiser}, validation={"clips": 1})
    same = with_valid(config, Path(config.data.train))
    check_equal_items_score_alike(same, open_recipe(same), tmp_path, tools)


def test_scoring_training_items_moves_nothing(tmp_path, make, tools):
    check_nothing_moves(make(model={"quantiser": "vq"}), open_recipe, tmp_path, tools)
