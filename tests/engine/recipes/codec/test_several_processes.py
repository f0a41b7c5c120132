"""A codec in two processes, and under `kill -9`: the gradients of one batch, one codebook, the same weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engine.recipes.codec.fakes import updates as script
from tests.engine.recipes.codec.fakes.updates import update
from tests.killing import train
from tests.ranks import start_together
from tests.updates import SPLITS, assert_equal_updates

KINDS = ("fsq", "vq")


def assert_same(found: Any, whole: Any) -> None:
    """Gradients, loss and curves, and every weight and sum of the codebook."""
    assert_equal_updates(found, whole)
    for name, tensor in found["weights"].items():
        assert (tensor - whole["weights"][name]).abs().max() < 1e-6, name


@pytest.mark.slow
def test_two_processes_make_the_update_of_one_batch(make: Any, tmp_path: Path) -> None:
    """Ragged, also where one process has no data, or memory for one item; codes are revived in it.

    Adam divides what rounding leaves of a gradient near 0 by itself: a large epsilon keeps that small.
    """
    configs = {
        kind: make(
            model={"quantiser": kind, "revive_below": 0.5}, optimizer={"eps": 1.0, "clip_norm": 0.0}
        )
        for kind in KINDS
    }
    values = json.dumps({kind: config.to_dict() for kind, config in configs.items()})
    with start_together(script.__name__, tmp_path, arguments=[values]) as results:
        whole = {kind: update(config, "one batch") for kind, config in configs.items()}
        first, second = results()
    assert first.keys() == second.keys() == set(KINDS)
    for kind, made in first.items():
        assert made.keys() == {*SPLITS, "short"}
        for name, found in made.items():
            assert_same(found, whole[kind])
            for key, tensor in found["weights"].items():
                # Not only near: the codebooks of both are equal, or they would drift apart.
                assert torch.equal(tensor, second[kind][name]["weights"][key]), key
    assert second["vq"]["short"]["shortages"] > 0
    moved = whole["vq"]["weights"]["quantiser.use_K"]
    assert float((moved - moved.mean()).abs().max()) > 0


@pytest.mark.slow
def test_killed_in_its_stage_and_in_training_it_comes_to_the_same(
    make: Any, tmp_path: Path, checkpoint_tensors: Any
) -> None:
    """The codebook starts at k-means, follows, and is revived in update 10, after the second kill."""
    config = make(model={"quantiser": "vq", "revive_below": 0.5}, schedule={"length": "14 updates"})
    train(config, tmp_path / "whole")
    for place in (("mel-statistics", 0), ("update", 4), ("update", 8)):
        train(config, tmp_path / "killed", kill_at=place)
    train(config, tmp_path / "killed")
    one, other = (
        checkpoint_tensors(tmp_path / name / "checkpoints" / "last-000014")
        for name in ("whole", "killed")
    )
    assert one.keys() == other.keys()
    assert any(name.endswith("quantiser.sum_KD") for name in one)
    assert [name for name in one if not torch.equal(one[name], other[name])] == []
