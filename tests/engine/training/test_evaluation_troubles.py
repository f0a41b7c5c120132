"""An evaluation that is stopped, or that fails, costs none of the updates before it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.modules.module import _global_forward_pre_hooks

from engine.config.errors import DataError
from engine.events import Evaluated, Noticed
from engine.training.evaluating import MOST_LEFT_OUT
from engine.training.trainer import Trainer

UPDATES = 12


class StopsWithin:
    """Asks the run to stop at a forward pass of some evaluation of a process, and never between updates."""

    def __init__(self, passes: int) -> None:
        self.left = passes
        self.asked = False

    def stop_reason(self) -> str | None:
        return "asked to stop" if self.asked else None

    def interruption(self) -> str | None:
        self.left -= 1
        self.asked = self.left < 0
        return self.stop_reason()


def fit(config: Any, recipe: Any, folder: Path, *, observer: Any, control: Any) -> Any:
    """Train, and return how the run ended."""
    return Trainer(config, recipe, folder=folder, observers=[observer], control=control).fit()


# LineRecipe has 5 modules, and an average doubles the passes. The evaluations are at updates 1, 5, 10 and 12.
@pytest.mark.parametrize(("passes", "update"), [(2, 1), (13, 5), (33, 12)])
def test_a_stop_within_an_evaluation_goes_on_bit_identical(
    tmp_path, make_config, line_recipe, new_recorder, stop_after, checkpoint_tensors, passes, update
):
    config = make_config(stop_when={"patience": "50 updates"})
    whole, first, second = new_recorder(), new_recorder(), new_recorder()
    fit(config, line_recipe(), tmp_path / "whole", observer=whole, control=stop_after())

    control = StopsWithin(passes)
    ended = fit(config, line_recipe(), tmp_path / "parts", observer=first, control=control)
    assert (ended.outcome, ended.counters.updates) == ("stopped", update)
    assert [one.counters.updates for one in first.of(Evaluated)] == [
        one for one in (1, 5, 10, 12) if one < update
    ]
    assert not _global_forward_pre_hooks
    ended = fit(config, line_recipe(), tmp_path / "parts", observer=second, control=stop_after())

    assert (ended.outcome, ended.counters.updates) == ("finished", UPDATES)
    evaluations = [(e.counters, e.metrics) for e in whole.of(Evaluated)]
    assert [(e.counters, e.metrics) for e in first.of(Evaluated) + second.of(Evaluated)] == (
        evaluations
    )
    assert first.curve("loss") | second.curve("loss") == whole.curve("loss")
    states = [
        checkpoint_tensors(tmp_path / name / "checkpoints" / f"last-{UPDATES:06d}")
        for name in ("whole", "parts")
    ]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    texts = [
        (tmp_path / name / "checkpoints" / f"last-{UPDATES:06d}" / "state.json").read_text()
        for name in ("whole", "parts")
    ]
    assert texts[0] == texts[1]


def failing(recipe_class: type, errors: list[Exception | None]) -> Any:
    """Return a recipe whose evaluations raise these errors, one after another."""

    class Failing(recipe_class):  # type: ignore[misc, valid-type]
        def evaluate(self, model: nn.Module, device: torch.device) -> Any:
            error = errors.pop(0) if errors else None
            if error is not None:
                raise error
            return super().evaluate(model, device)

    return Failing()


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        OSError(5, "Input/output error"),
        DataError(["valid/7.wav is gone"]),
    ],
)
def test_an_evaluation_that_fails_is_made_again_then_left_out(
    tmp_path, make_config, line_recipe, recorder, stop_after, error
):
    config = make_config(ema={"enabled": False})
    recipe = failing(line_recipe, [error, None, error, error])
    ended = fit(config, recipe, tmp_path, observer=recorder, control=stop_after())

    assert ended.outcome == "finished"
    assert [one.counters.updates for one in recorder.of(Evaluated)] == [1, 10, 12]
    kinds = [n.message for n in recorder.of(Noticed) if n.kind == "evaluation-failed"]
    assert [text.rpartition("; ")[2] for text in kinds] == [
        "it is made again",
        "it is made again",
        "left out, training continues",
    ]
    assert str(error) in kinds[0]


def test_a_run_without_any_evaluation_ends_saved(
    tmp_path, make_config, line_recipe, recorder, stop_after
):
    config = make_config(ema={"enabled": False}, checkpoint={"every": "1000 updates"})
    recipe = failing(line_recipe, [DataError(["valid is gone"])] * 2 * MOST_LEFT_OUT)
    with pytest.raises(DataError, match="valid is gone"):
        fit(config, recipe, tmp_path, observer=recorder, control=stop_after())
    assert (tmp_path / "checkpoints" / "last-000010" / "manifest.json").exists()


def test_any_other_error_comes_after_a_save(
    tmp_path, make_config, line_recipe, recorder, stop_after
):
    """All updates were made and nothing saved, where the last evaluation failed."""
    config = make_config(ema={"enabled": False}, checkpoint={"every": "1000 updates"})
    recipe = failing(line_recipe, [None, None, None, RuntimeError("shapes do not match")])
    with pytest.raises(RuntimeError, match="shapes"):
        fit(config, recipe, tmp_path, observer=recorder, control=stop_after())
    assert (tmp_path / "checkpoints" / f"last-{UPDATES:06d}" / "manifest.json").exists()
