"""A voice in two processes, and under `kill -9`: the gradients of one batch, the same weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engine.recipes.voice.fakes import updates as script
from tests.engine.recipes.voice.fakes.updates import update
from tests.killing import train
from tests.ranks import start_together
from tests.updates import SPLITS, assert_equal_updates


@pytest.mark.slow
def test_two_processes_make_the_update_of_one_batch(make: Any, tmp_path: Path) -> None:
    """Ragged, also where one process has no data, or memory for one item."""
    config = make()
    with start_together(
        script.__name__, tmp_path, arguments=[json.dumps(config.to_dict())]
    ) as results:
        whole = update(config, "one batch", tmp_path / "run")
        first, second = results()
    assert first.keys() == second.keys() == {*SPLITS, "short"}
    for made in (first, second):
        for found in made.values():
            assert_equal_updates(found, whole)
    assert second["short"]["shortages"] > 0


@pytest.mark.slow
def test_killed_in_its_stages_and_in_training_it_comes_to_the_same(
    make: Any, codec: Path, tmp_path: Path, checkpoint_tensors: Any
) -> None:
    """Codec, codes and voices, weights and moments; what was begun after a stage needs no codec run."""
    config = make(model={"dropout": 0.1}, schedule={"length": "12 updates"})
    needs = {"codec": codec}
    train(config, tmp_path / "whole", needs=needs)
    for place in (("codec", 0), ("voices", 0), ("codes", 0), ("update", 4)):
        train(config, tmp_path / "killed", kill_at=place, needs=needs)
    train(config, tmp_path / "killed")
    one, other = (
        checkpoint_tensors(tmp_path / name / "checkpoints" / "last-000012")
        for name in ("whole", "killed")
    )
    assert one.keys() == other.keys()
    assert any("codes.count" in name for name in one)
    assert any("voices.clips.2" in name for name in one)
    assert [name for name in one if not torch.equal(one[name], other[name])] == []
