"""Evaluation on full files, beside that on excerpts: a part in memory at a time."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
import torch
from torch import nn

from engine.data.separation.dataset import AudioItem, WholeItem
from engine.events import CheckpointSaved, Evaluated
from engine.recipes.separation.recipe import SeparationRecipe
from engine.training.trainer import Trainer

CPU = torch.device("cpu")


class Louder(nn.Module):
    """Puts out its input, sample by sample changed, and remembers the longest."""

    def __init__(self) -> None:
        super().__init__()
        self.longest = 0

    def forward(self, mix_BCT):
        self.longest = max(self.longest, mix_BCT.shape[-1])
        return (0.5 * mix_BCT + mix_BCT**3).unsqueeze(1)


@torch.no_grad()
@pytest.mark.parametrize("loss", [{}, {"kind": "si_sdr"}, {"kind": "l1"}])
def test_parts_of_a_file_are_judged_as_the_whole(make_config, loss):
    """Without memory, a model says the same of parts and of an excerpt as long as the file."""
    model, whole = Louder(), Louder()
    ours = SeparationRecipe(
        make_config(loss=loss, validation={"full_files": True, "segment_s": 0.3})
    ).evaluate_whole(model, CPU)
    expected = SeparationRecipe(
        make_config(loss=loss, validation={"segment_s": 60, "batch_items": 1})
    ).evaluate(whole, CPU)
    assert (model.longest, whole.longest) == (2_400, 16_000)
    assert set(ours.items) == set(expected.items)
    for name in ("si_sdr", "si_sdri", "input_si_sdr", "sdr"):
        np.testing.assert_allclose(ours.items[name], expected.items[name], atol=1e-6)
    if loss.get("kind") == "l1":
        np.testing.assert_allclose(ours.items["val_loss"], expected.items["val_loss"], rtol=1e-6)
    np.testing.assert_allclose(ours.items["spectral"], expected.items["spectral"], rtol=0.1)


@torch.no_grad()
def test_memory_does_not_grow_with_the_file(make_config):
    """A long file is judged in the memory of three of its parts."""
    recipe = SeparationRecipe(make_config(validation={"full_files": True, "segment_s": 0.25}))
    reads: list[int] = []
    living, most = 0, 0

    def let_go() -> None:
        nonlocal living
        living -= 1

    def read(start: int, frames: int) -> AudioItem:
        nonlocal living, most
        noise_SCT = np.random.default_rng(start).standard_normal((1, 1, frames), dtype=np.float32)
        weakref.finalize(noise_SCT, let_go)
        reads.append(frames)
        living, most = living + 1, max(most, living + 1)
        return AudioItem(noise_SCT.sum(axis=0), noise_SCT)

    recipe._judged(Louder(), WholeItem(120_000, read), device=CPU, into=None)
    assert (max(reads), len(reads)) == (2_000, 80)
    assert most <= 3


def test_full_files_leave_the_excerpts_as_they_are(make_config):
    plain, full = (
        SeparationRecipe(make_config(validation={"full_files": full})) for full in (False, True)
    )
    assert plain.sizes("valid").tolist() == full.sizes("valid").tolist()
    assert plain._items_key == full._items_key
    assert plain._items_key != SeparationRecipe(make_config(validation={"segment_s": 1}))._items_key


@pytest.mark.parametrize(
    ("every", "updates"), [({}, [4]), ({"full_every": "6 samples"}, [2, 3, 4])]
)
def test_a_run_is_judged_on_both(tmp_path, make_config, recorder, stop_after, every, updates):
    config = make_config(
        schedule={"length": "4 updates"},
        validation={"full_files": True, "segment_s": 0.4, "clips": 1, **every},
        checkpoint={"best": ["si_sdr_full_ema"]},
    )
    Trainer(
        config,
        SeparationRecipe(config),
        folder=tmp_path,
        observers=[recorder],
        control=stop_after(),
    ).fit()
    found = recorder.of(Evaluated)
    assert [e.counters.updates for e in found if "si_sdr_full" in e.metrics] == updates
    assert all("si_sdr" in event.metrics for event in found)
    last = found[-1]
    names = {"si_sdr", "sdr", "si_sdri", "lsd", "spectral", "val_loss"}
    ends = ("", "_ema", "_full", "_full_ema")
    assert {f"{name}{end}" for name in names for end in ends} <= set(last.metrics)
    assert "input_si_sdr_full_ema" not in last.metrics
    assert all(np.isfinite(value) for value in last.metrics.values())
    assert last.metrics["si_sdr_full"] != last.metrics["si_sdr"]
    assert len(last.items["si_sdr_full"]) == len(last.items["si_sdr"]) == last.num_items
    assert (last.units["val_loss_full"], last.units["spectral_full"]) == ("", "")
    assert "best-si_sdr_full_ema" in {saved.kind for saved in recorder.of(CheckpointSaved)}


@torch.no_grad()
def test_the_spectral_loss_is_a_metric_whatever_is_minimised(make_config):
    """It is the same quantity in every run: that of the default settings."""
    model = Louder()
    found = {
        str(loss): SeparationRecipe(make_config(loss=loss)).evaluate(model, CPU).metrics
        for loss in ({"kind": "si_sdr"}, {"windows": [256]}, {"reduction": "sum"})
    }
    default = make_config(loss={"windows": [2048, 1024, 512, 256, 128, 64, 32]})
    expected = SeparationRecipe(default).evaluate(model, CPU).metrics
    assert expected["spectral"] == expected["val_loss"]
    for metrics in found.values():
        assert metrics["spectral"] == pytest.approx(expected["spectral"], rel=1e-6)
        assert metrics["spectral"] != metrics["val_loss"]
