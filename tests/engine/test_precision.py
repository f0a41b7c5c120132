"""Layout and compilation of the network: faster or not, the run and its checkpoints stay the same."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from engine.config.sections import PrecisionConfig
from engine.events import Evaluated, Noticed
from engine.precision import autocast, compiled_parts, computes_in_bf16, number_format, place
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


@pytest.mark.parametrize(
    ("dtype", "has_bf16", "expected"),
    [
        ("auto", True, torch.bfloat16), ("auto", False, torch.float32), ("fp32", True, torch.float32),
        ("bf16", False, torch.bfloat16), ("fp16", True, torch.float16),
    ],
)  # fmt: skip
def test_auto_is_bf16_where_the_device_computes_in_it(monkeypatch, dtype, has_bf16, expected):
    monkeypatch.setattr("engine.precision.computes_in_bf16", lambda device: has_bf16)
    with autocast(PrecisionConfig(dtype=dtype), CPU):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == expected


def test_what_a_device_computes_in_is_asked_of_it(monkeypatch):
    for capabilities, expected in (
        ({"avx512_f": True, "avx512_bf16": False, "amx_bf16": False}, False),
        ({"avx512_f": True, "avx512_bf16": True, "amx_bf16": False}, True),
        ({"avx512_f": True, "avx512_bf16": False, "amx_bf16": True}, True),
    ):
        monkeypatch.setattr(
            torch.cpu, "get_capabilities", lambda found=capabilities: found, raising=False
        )
        assert computes_in_bf16(CPU) is expected
    asked = []
    monkeypatch.setattr(
        torch.cuda,
        "is_bf16_supported",
        lambda *, including_emulation: asked.append(including_emulation),
    )
    assert number_format(PrecisionConfig(dtype="auto"), torch.device("cuda")) == "fp32"
    assert asked == [False]


def test_auto_says_what_it_came_to_and_a_resume_elsewhere_says_what_changed(
    tmp_path, make_config, line_recipe, new_recorder, stop_after, monkeypatch
):
    config = make_config(precision={"dtype": "auto"})
    texts = []
    for has_bf16, control in ((True, stop_after(5)), (False, stop_after())):
        monkeypatch.setattr("engine.precision.computes_in_bf16", lambda device, has=has_bf16: has)
        recorder = new_recorder()
        Trainer(config, line_recipe(), folder=tmp_path, observers=[recorder], control=control).fit()
        texts.append([(e.level, e.message) for e in recorder.of(Noticed)])
    assert texts == [
        [("info", "precision.dtype = auto: computing in bf16 on cpu")],
        [
            (
                "info",
                "precision.dtype = auto: this device computes in fp32, the updates so far were made in bf16",
            ),
            ("info", "precision.dtype = auto: computing in fp32 on cpu"),
        ],
    ]


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
