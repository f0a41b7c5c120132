"""HuBERT in the trainer: stopped and resumed it comes to the same bits, and it learns labels that can be learnt."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from engine.events import Evaluated, Noticed, RunStarted
from engine.recipes.datasets import Datasets
from engine.recipes.self_supervised.hubert import HubertRecipe
from engine.training.trainer import Trainer
from tests.killing import train
from tests.pretraining import MadeUpTargets, pretraining, write_audio

RUN = {
    "model": {"dropout": 0.1, "attention_dropout": 0.1, "layer_drop": 0.3},
    "batch": {"items": 3, "micro_batch": 2},
    "schedule": {"length": "8 updates"},
    "validation": {"every": "4 updates"},
    "checkpoint": {"every": "3 updates", "best": ["val_loss"]},
    "logging": {"every": "2 updates"},
    "optimizer": {"lr": 1e-2, "clip_norm": 1.0},
}  # fmt: skip


class LoudOrNot(MadeUpTargets):
    """Labels that can be heard: two files in one cluster, by their number."""

    def labels(self, split, index, *, first_frame, frames):
        return np.full(frames, index // 2)


@pytest.fixture(scope="module")
def audio(tmp_path_factory):
    """A folder of short files."""
    return write_audio(tmp_path_factory.mktemp("unlabelled"))


def fit(config, folder, recorder, *, control, targets=MadeUpTargets):
    recipe = HubertRecipe(config, datasets=Datasets(config), targets=targets(config.loss.clusters))
    trainer = Trainer(config, recipe, folder=folder, observers=[recorder], control=control)
    return trainer.fit()


@pytest.mark.parametrize("stop_at", [1, 5])
@pytest.mark.parametrize("workers", [0, 1])
def test_stopped_and_resumed_is_bit_identical(
    tmp_path, audio, new_recorder, stop_after, checkpoint_tensors, stop_at, workers
):
    config = pretraining(audio, **{**RUN, "batch": {**RUN["batch"], "workers": workers}})
    whole, first, second = new_recorder(), new_recorder(), new_recorder()
    fit(config, tmp_path / "whole", whole, control=stop_after())
    fit(config, tmp_path / "parts", first, control=stop_after(stop_at))
    fit(config, tmp_path / "parts", second, control=stop_after())
    assert second.of(RunStarted)[0].resumed_from == stop_at
    (notice,) = (event.message for event in whole.of(Noticed) if event.kind == "loss")
    assert notice.endswith(
        "= 10 x model.feature_grad_scale = 0.1: effective scale 1 on the feature extractor"
    )
    one, other = (
        checkpoint_tensors(tmp_path / name / "checkpoints" / "last-000008")
        for name in ("whole", "parts")
    )
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []
    for name in ("loss", "masked_loss", "unmasked_accuracy", "mask_run", "masked_share"):
        assert first.curve(name) | second.curve(name) == whole.curve(name)
        assert len(whole.curve(name)) == 4
    ends = [recorder.of(Evaluated)[-1].metrics for recorder in (whole, second)]
    assert ends[0] == ends[1]


def test_it_learns_what_can_be_heard(tmp_path, audio, new_recorder, stop_after):
    config = pretraining(
        audio,
        loss={"clusters": 4, "penalty": 0.1},
        model={"feature_grad_scale": 1.0, "dim": 32},
        schedule={"length": "60 updates"},
        validation={"every": "60 updates"},
        optimizer={"lr": 1e-2, "clip_norm": 1.0},
    )
    recorder = new_recorder()
    fit(config, tmp_path, recorder, control=stop_after(), targets=LoudOrNot)
    before, after = (event.metrics for event in recorder.of(Evaluated))
    assert before["val_masked_loss"] > 0.9 * np.log(4)
    assert after["val_label_entropy"] == pytest.approx(np.log(4), abs=0.05)
    assert after["val_masked_loss"] < 0.5 * after["val_label_entropy"]
    assert after["val_masked_accuracy"] > 0.8


@pytest.mark.slow
def test_killed_while_targets_are_made_and_in_training_it_comes_to_the_same(
    tmp_path, audio, checkpoint_tensors
):
    """From audio to weights with its own targets, killed in every stage and twice in training."""
    config = pretraining(audio, **{**RUN, "loss": {"frames_per_cluster": 20, "kmeans_starts": 2}})
    train(config, tmp_path / "whole")
    for place in (("reservoir", 0), ("clusters", 1), ("labels", 0), ("update", 3), ("update", 6)):
        train(config, tmp_path / "killed", kill_at=place)
    train(config, tmp_path / "killed")
    one, other = (
        checkpoint_tensors(tmp_path / name / "checkpoints" / "last-000008")
        for name in ("whole", "killed")
    )
    assert one.keys() == other.keys()
    assert any(name.endswith("centroids") for name in one)
    assert [name for name in one if not torch.equal(one[name], other[name])] == []
