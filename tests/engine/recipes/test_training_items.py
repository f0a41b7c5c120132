"""Separation and speech score training items as they score validation items."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from engine.recipes.registry import open_recipe
from engine.recipes.training_items import num_scored, sampled
from tests.scored import (
    check_equal_items_score_alike,
    check_nothing_is_taken_for_another,
    check_nothing_moves,
    with_valid,
)


@pytest.fixture
def tools(new_recorder, stop_after, checkpoint_tensors):
    return {"recorder": new_recorder, "stop": stop_after, "tensors": checkpoint_tensors}


@pytest.fixture(params=["stems", "rnnt", "ctc"])
def config(request, make_config, speech_config, ctc_config):
    build = {"stems": make_config, "rnnt": speech_config, "ctc": ctc_config}[request.param]
    return build()


def test_training_items_score_as_the_same_ones_in_validation(tmp_path, config, tools):
    same = with_valid(config, Path(config.data.train))
    check_equal_items_score_alike(same, open_recipe(same), tmp_path, tools)


def test_nothing_is_taken_for_another(config):
    recipe = open_recipe(config)
    torch.manual_seed(0)
    check_nothing_is_taken_for_another(recipe, open_recipe(config), recipe.build_model())


def test_scoring_training_items_moves_nothing(tmp_path, config, tools):
    check_nothing_moves(config, open_recipe, tmp_path, tools)


def test_masks_of_training_are_left_out(tmp_path, speech_config, tools):
    """Masked until nothing is left, training frames could not score as validation frames do."""
    config = speech_config(data={"time_masks": 20, "time_mask_frames": 100, "freq_masks": 10})
    same = with_valid(config, Path(config.data.train))
    check_equal_items_score_alike(same, open_recipe(same), tmp_path, tools)


def test_the_sample_is_fixed_spread_and_small():
    assert sampled(100, 5) == sampled(100, 5)
    assert sampled(100, 5) == sorted(set(sampled(100, 5)))
    assert sampled(3, 5) == [0, 1, 2]
    assert set(sampled(100, 5)) <= set(sampled(100, 6))
    assert [num_scored(32, num_valid=n) for n in (4, 40, 400)] == [8, 10, 32]
    assert num_scored(4, num_valid=400) == 4
