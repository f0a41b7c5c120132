"""Epochs as a clock: 12 items in updates of 5 are 2.4 updates an epoch, worked out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from engine.config.overrides import config_with
from engine.events import CheckpointSaved, Evaluated, PointsRecorded, RunStarted
from engine.training.trainer import Trainer

EXACT = ("loss", "grad_norm", "lr", "skipped")


def _fit(config: Any, recipe: Any, folder: Path, observer: Any, control: Any) -> Any:
    return Trainer(config, recipe, folder=folder, observers=[observer], control=control).fit()


@pytest.fixture
def config(make_config: Any) -> Any:
    """A run whose every clock counts epochs."""
    return make_config(
        batch={"items": 5}, optimizer={"lr": 1.0},
        schedule={"length": "3 epochs", "kind": "multi_step", "warmup": "1 epochs", "milestones": ["2 epochs"]},
        ema={"per": "0.5 epochs", "restart_at": "2 epochs"}, validation={"every": "1 epochs"},
        checkpoint={"every": "1 epochs"}, logging={"every": "0.5 epochs"},
    )  # fmt: skip


def test_three_epochs(tmp_path, config, line_recipe, recorder, stop_after):
    ended = _fit(config, line_recipe(), tmp_path, recorder, stop_after())

    # 36 items need 8 updates of 5; the last one runs into a fourth epoch.
    assert (ended.counters.updates, ended.counters.items) == (8, 40)
    assert ended.counters.epochs == 3.333333333
    assert recorder.of(RunStarted)[0].total_updates == 8
    # The first update to reach 1, 2 and 3 epochs is number 3 (2.4), 5 (4.8) and 8 (7.2).
    evaluated = [event.counters for event in recorder.of(Evaluated)]
    assert [counters.updates for counters in evaluated] == [1, 3, 5, 8]
    assert [counters.epochs for counters in evaluated] == [0.416666667, 1.25, 2.083333333, 3.333333333]  # fmt: skip
    saved = [e.counters for e in recorder.of(CheckpointSaved) if e.kind == "last"]
    assert [counters.updates for counters in saved] == [3, 5, 8]
    assert [counters.epochs for counters in saved] == [1.25, 2.083333333, 3.333333333]
    assert recorder.of(PointsRecorded)[-1].counters == ended.counters
    # Half an epoch is 1.2 updates.
    assert sorted(recorder.curve("lr")) == [2, 3, 4, 5, 6, 8]


def test_the_learning_rate_follows_epochs(tmp_path, config, line_recipe, recorder, stop_after):
    """Up over 2.4 updates; a tenth of it once 4.8 are made."""
    config = config_with(config.to_dict(), ["logging.every=1 updates"])
    _fit(config, line_recipe(), tmp_path, recorder, stop_after())

    rates = list(recorder.curve("lr").values())
    assert rates == pytest.approx([1 / 2.4, 2 / 2.4, 1, 1, 1, 0.1, 0.1, 0.1])


@pytest.mark.parametrize("stop_at", [1, 2, 4, 7])
def test_a_run_stopped_in_mid_epoch_goes_on_bit_identical(
    tmp_path, config, line_recipe, new_recorder, stop_after, checkpoint_tensors, stop_at
):
    whole, first, second = new_recorder(), new_recorder(), new_recorder()
    end = _fit(config, line_recipe(), tmp_path / "whole", whole, stop_after())
    _fit(config, line_recipe(), tmp_path / "parts", first, stop_after(stop_at))
    ended = _fit(config, line_recipe(), tmp_path / "parts", second, stop_after())

    assert second.of(RunStarted)[0].counters.epochs == round(stop_at * 5 / 12, 9)
    assert ended.counters == end.counters
    states = [
        checkpoint_tensors(tmp_path / name / "checkpoints" / "last-000008")
        for name in ("whole", "parts")
    ]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    for name in EXACT:
        assert first.curve(name) | second.curve(name) == whole.curve(name)


def test_an_epoch_of_a_capped_mode_is_a_whole_number_of_updates(
    tmp_path, make_config, line_recipe, recorder, stop_after
):
    """Twelve items of a second, five seconds to a batch: three updates an epoch."""
    config = make_config(
        batch={"mode": "duration", "cap_s": 5.0, "micro_batch": 64},
        schedule={"length": "2 epochs"}, validation={"every": "1 epochs", "at_start": False},
    )  # fmt: skip
    recipe = line_recipe()
    ended = _fit(config, recipe, tmp_path, recorder, stop_after())

    assert (ended.counters.updates, ended.counters.items) == (6, 24)
    assert [e.counters.epochs for e in recorder.of(Evaluated)] == [1.0, 2.0]
    drawn = [(draw.epoch, draw.index) for draw in recipe.fetched if draw.epoch < 2]
    assert sorted(drawn) == [(epoch, index) for epoch in range(2) for index in range(12)]
