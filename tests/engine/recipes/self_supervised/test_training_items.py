"""Self-supervised recipes score training items as they score validation items."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.recipes.datasets import Datasets
from engine.recipes.registry import open_recipe
from engine.recipes.self_supervised.hubert import HubertRecipe
from tests.pretraining import MadeUpTargets, pretraining, write_audio
from tests.scored import check_equal_items_score_alike, check_nothing_moves, with_valid


class OfItem(MadeUpTargets):
    """Labels that depend on the item alone, of whichever split."""

    def labels(self, split, index, *, first_frame, frames):
        return np.full(frames, index % self.clusters)


def hubert(config):
    targets = OfItem(config.loss.clusters)
    return HubertRecipe(config, datasets=Datasets(config), targets=targets)


@pytest.fixture
def tools(new_recorder, stop_after, checkpoint_tensors):
    return {"recorder": new_recorder, "stop": stop_after, "tensors": checkpoint_tensors}


@pytest.fixture(params=["hubert", "wav2vec2", "data2vec2"])
def run(request, tmp_path, wav2vec2_config, data2vec2_config):
    """The config of a tiny run, and how its recipe is opened."""
    if request.param == "hubert":
        short = {"schedule": {"length": "4 updates"}, "validation": {"every": "2 updates"}}
        return pretraining(write_audio(tmp_path / "audio"), **short), hubert
    build = wav2vec2_config if request.param == "wav2vec2" else data2vec2_config
    return build(), open_recipe


def test_training_items_score_as_the_same_ones_in_validation(tmp_path, run, tools):
    config, opened = run
    same = with_valid(config, Path(config.data.train))
    check_equal_items_score_alike(same, opened(same), tmp_path, tools)


def test_scoring_training_items_moves_nothing(tmp_path, run, tools):
    config, opened = run
    check_nothing_moves(config, opened, tmp_path, tools)
