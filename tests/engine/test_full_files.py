"""Evaluation on full files: the same metrics of whole signals, with one part on the device at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from engine.data.dataset import collate
from engine.data.open_dataset import open_dataset
from engine.events import Evaluated
from engine.recipes.separation import SeparationRecipe
from engine.trainer import Trainer

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
def _judged(config, model):
    return SeparationRecipe(config).evaluate(model, CPU)


@pytest.mark.parametrize("loss", [{}, {"reduction": "sum"}, {"kind": "si_sdr"}])
def test_parts_of_a_file_are_judged_as_the_whole(make_config, loss):
    """Without memory, a model says the same of parts and of a whole excerpt as long as the file."""
    parts = make_config(loss=loss, validation={"full_files": True, "segment_s": 0.3})
    at_once = make_config(loss=loss, validation={"segment_s": 60, "batch_items": 1})
    model, whole = Louder(), Louder()
    ours, expected = _judged(parts, model), _judged(at_once, whole)
    assert (model.longest, whole.longest) == (2_400, 16_000)
    assert set(ours.items) == set(expected.items)
    for name, values in expected.items.items():
        np.testing.assert_allclose(ours.items[name], values, rtol=1e-6)
    assert ours.metrics == pytest.approx(expected.metrics, rel=1e-6)


def test_items_are_whole_files(make_config):
    config = make_config(validation={"full_files": True, "segment_s": 0.2})
    dataset = open_dataset(config, "valid")
    assert dataset.durations_s().tolist() == [2.0] * len(dataset)
    assert collate([dataset.item(0, 0)]).tensors["mix"].shape == (1, 1, 16_000)
    assert open_dataset(config, "train").durations_s()[0] == 0.25


def test_full_files_and_excerpts_are_never_paired(make_config):
    def key(**validation):
        return SeparationRecipe(make_config(validation=validation))._items_key

    assert key(full_files=True) != key()
    assert key(full_files=True, segment_s=0.2) == key(full_files=True)


def test_a_run_judged_on_full_files(tmp_path, make_config, recorder, stop_after):
    config = make_config(
        schedule={"length": "2 updates"},
        validation={"full_files": True, "segment_s": 0.4, "samples": 1},
    )
    Trainer(
        config, SeparationRecipe(config), tmp_path, observers=[recorder], control=stop_after()
    ).fit()
    first, last = recorder.of(Evaluated)
    assert last.counters.updates == 2
    assert {"si_sdr", "si_sdr_ema", "val_loss", "sdr", "lsd"} <= set(last.metrics)
    assert all(np.isfinite(value) for value in last.metrics.values())
    assert first.metrics["input_si_sdr"] == last.metrics["input_si_sdr"]
    assert len(last.items["si_sdr"]) == last.num_items
