"""Layout and compilation of the network: faster or not, the run and its checkpoints stay the same."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from engine.config.sections import PrecisionConfig
from engine.events import Evaluated
from engine.precision import compiled_parts, place
from engine.recipes.separation.recipe import SeparationRecipe
from engine.training.trainer import Trainer

CPU = torch.device("cpu")
SPEC_UNET = {"kind": "spec_unet", "width": 4, "n_fft": 256, "hop_length": 64, "bins": "first:64"}


@pytest.fixture
def without_inductor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Capture and guard as ever, but leave the C++ compiler out: it takes half a minute."""
    compile_ = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda self: compile_(self, backend="eager"))


class Parts(nn.Module):
    """A model whose parts are called one by one."""

    compiled_parts = ("first",)

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(2, 2), nn.Linear(2, 2)


def test_channels_last_changes_the_layout_of_2d_convolutions_alone() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv1d(4, 4, 3))
    placed = place(model, PrecisionConfig(channels_last=True), device=CPU)
    assert placed[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert not placed[0].weight.is_contiguous()
    assert placed[1].weight.is_contiguous()


@pytest.mark.slow
def test_compiled_parts_are_those_the_model_names(without_inductor) -> None:
    model = Parts()
    assert compiled_parts(model) == [model.first]
    placed = place(model, PrecisionConfig(compile=True), device=CPU)
    assert placed.first._compiled_call_impl is not None
    assert placed.second._compiled_call_impl is None
    whole = nn.Linear(2, 2)
    assert compiled_parts(whole) == [whole]


@pytest.mark.slow
@pytest.mark.parametrize("setting", ["channels_last", "compile"])
def test_a_run_and_its_checkpoints_stay_the_same(
    setting, without_inductor, tmp_path, make_config, new_recorder, stop_after, checkpoint_tensors
) -> None:
    found = {}
    for value in (False, True):
        precision = {"device": "cpu", "threads": 1, setting: value}
        config = make_config(model=SPEC_UNET, precision=precision, schedule={"length": "4 updates"})
        recorder, folder = new_recorder(), tmp_path / str(value)
        recipe = SeparationRecipe(config)
        Trainer(config, recipe, folder=folder, observers=[recorder], control=stop_after(2)).fit()
        Trainer(config, recipe, folder=folder, observers=[recorder], control=stop_after()).fit()
        tensors = checkpoint_tensors(folder / "checkpoints" / "last-000004")
        found[value] = recorder.curve("loss"), recorder.of(Evaluated)[-1].metrics, tensors
    (loss, metrics, tensors), (loss_, metrics_, tensors_) = found[False], found[True]
    assert sorted(loss_) == [1, 2, 3, 4]
    assert loss_ == pytest.approx(loss, rel=1e-4)
    assert metrics_["val_loss"] == pytest.approx(metrics["val_loss"], rel=1e-3)
    assert {n: t.shape for n, t in tensors_.items()} == {n: t.shape for n, t in tensors.items()}
