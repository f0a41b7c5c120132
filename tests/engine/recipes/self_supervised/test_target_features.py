"""Layers of an earlier run as targets: their frames, what identifies them, and teachers that are refused."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

from engine.checkpoints.files import MODEL, CheckpointError, read_manifest, write_checkpoint
from engine.checkpoints.find import find_checkpoint
from engine.config.errors import ConfigError
from engine.recipes.base import Opening
from engine.recipes.registry import open_recipe
from engine.recipes.self_supervised.target_features import LayerSource, open_source
from engine.recipes.trained import load_trained
from engine.training.trainer import Trainer
from tests.pretraining import pretraining, write_audio

RUN = {
    "schedule": {"length": "2 updates"},
    "loss": {"clusters": 10, "frames_per_cluster": 20, "kmeans_starts": 1},
}
GRID = {"window": 400, "hop": 320}


@pytest.fixture(scope="module")
def audio(tmp_path_factory):
    return write_audio(tmp_path_factory.mktemp("audio"))


class Never:
    """Never asks to stop."""

    def stop_reason(self):
        return None


def train(config, folder, *, needs=None):
    recipe = open_recipe(config, opening=Opening(folder, needs or {}))
    init = (needs or {}).get("init_from")
    trainer = Trainer(config, recipe, folder=folder, observers=[], control=Never())
    trainer.fit(init_from=init)
    return recipe


@pytest.fixture(scope="module")
def teacher(audio, tmp_path_factory):
    """A run of two updates; its folder."""
    folder = tmp_path_factory.mktemp("teacher")
    train(pretraining(audio, **RUN), folder)
    return folder


def wave(samples=16_000, seed=0):
    return np.random.default_rng(seed).normal(size=samples).astype(np.float32) * 0.1


def test_frames_are_those_of_the_network_alone_and_the_grid_fits(audio, teacher):
    source = open_source(pretraining(audio), teacher, layer=1, **GRID)
    _, model = load_trained(teacher)
    for samples in (400, 719, 720, 16_000, 16_319):
        one = wave(samples)
        feat_LD = source.frames(one)
        expected_LD = model.layer_features(torch.from_numpy(one)[None])[1][0]
        assert torch.equal(feat_LD, expected_LD)
        assert feat_LD.shape == (source.frames_of(samples), 16) == ((samples - 400) // 320 + 1, 16)


def test_the_waveform_is_normalised_as_the_teacher_was_trained(audio, tmp_path):
    config = pretraining(
        audio, **RUN, data={"normalize_waveform": True}, model={"extractor_norm": "layer_norm"}
    )
    train(config, tmp_path)
    source = open_source(config, tmp_path, layer=2, **GRID)
    quiet, loud = wave(), 50 * wave() + 1
    torch.testing.assert_close(source.frames(quiet), source.frames(loud), atol=1e-3, rtol=1e-3)


def test_the_hash_says_weights_layer_and_nothing_else(teacher, tmp_path):
    one = LayerSource(teacher, layer=1)
    shutil.copytree(teacher, tmp_path / "copy")
    assert LayerSource(tmp_path / "copy", layer=1).hash == one.hash
    assert LayerSource(teacher, layer=2).hash != one.hash


def test_faulty_teachers_are_one_line_each(audio, teacher, tmp_path, make_config):
    config = pretraining(audio)
    with pytest.raises(CheckpointError, match="contains no checkpoint: expected a folder with"):
        open_source(config, tmp_path / "nothing", layer=1, **GRID)
    with pytest.raises(
        ConfigError, match=r"^loss.targets_layer: 3, but .* has 2 layers; expected 0 to 2$"
    ):
        open_source(config, teacher, layer=3, **GRID)

    saved = read_manifest(find_checkpoint(teacher))
    values = {name: saved.values[name] for name in ("kind", "config", "plan", "metrics")}
    write_checkpoint(
        tmp_path / "untrained", {**values, "counters": {"updates": 0}},
        tensors={MODEL: saved.tensors(MODEL)}, documents={},
    )  # fmt: skip
    with pytest.raises(
        ConfigError, match=r"^loss.targets_from: .* was saved before the first update"
    ):
        open_source(config, tmp_path / "untrained", layer=1, **GRID)

    with pytest.raises(
        ConfigError,
        match=r"^loss.targets_from: .* frames in a second of 16000 Hz, but this run has",
    ):
        open_source(config, teacher, layer=1, window=400, hop=160)

    separation = make_config(schedule={"length": "1 updates"})
    train(separation, tmp_path / "separation")
    with pytest.raises(
        ConfigError,
        match=r"^loss.targets_from: .* has a model of kind 'audio_unet', whose layers can't",
    ):
        open_source(config, tmp_path / "separation", layer=1, **GRID)


def test_a_second_iteration_takes_labels_of_a_layer_and_goes_on_after_its_teacher_is_gone(
    audio, teacher, tmp_path
):
    config = pretraining(
        audio,
        schedule={"length": "4 updates"},
        loss={**RUN["loss"], "targets_from": "teacher", "targets_layer": 2},
    )
    needs = {"loss.targets_from": teacher}
    recipe = train(config, tmp_path / "run", needs=needs)
    targets = recipe._targets
    _, model = load_trained(teacher)
    feat_LD = model.layer_features(torch.from_numpy(targets.items("valid").audio(3))[None])[2][0]
    nearest_L = torch.cdist(feat_LD, targets.model.centroids_KD).argmin(dim=1).numpy()
    found_L = targets.labels("valid", 3, first_frame=0, frames=len(feat_LD))
    assert (found_L == nearest_L).mean() > 0.99
    assert targets.model.source_text.startswith("layer 2 of ")
    # The k-means model is in the checkpoint, and a trained model needs no other run.
    loaded, _ = load_trained(tmp_path / "run")
    assert loaded._targets.model.hash == targets.model.hash
    # Nor does a run that has its labels, until one is lost.
    again = train(config, tmp_path / "run")
    assert (again._targets.labels("valid", 3, first_frame=0, frames=len(found_L)) == found_L).all()
    next((tmp_path / "run" / "labels").rglob("valid/labels.u16")).unlink()
    with pytest.raises(
        ConfigError, match=r"^loss.targets_from: the checkpoint of teacher is gone, and"
    ):
        train(config, tmp_path / "run")


def test_further_pre_training_starts_from_weights_and_their_k_means_model(audio, teacher, tmp_path):
    config = pretraining(audio, **{**RUN, "loss": {**RUN["loss"], "kmeans_from": "t"}}).model_copy(
        update={"init_from": "t"}
    )
    base = find_checkpoint(teacher)
    needs = {"init_from": base, "loss.kmeans_from": base}
    recipe = train(config, tmp_path / "run", needs=needs)
    loaded, _ = load_trained(teacher)
    assert recipe._targets.model.hash == loaded._targets.model.hash

    # A k-means model of MFCCs does not suit the frames of a layer.
    config = pretraining(
        audio, loss={**RUN["loss"], "kmeans_from": "t", "targets_from": "t", "targets_layer": 1}
    )
    with pytest.raises(
        ConfigError,
        match=r"^loss.targets_from: the k-means model was fitted on 39-dimensional MFCC",
    ):
        train(
            config,
            tmp_path / "other",
            needs={"loss.kmeans_from": teacher, "loss.targets_from": teacher},
        )


def test_labels_of_a_layer_are_the_same_on_the_fly_and_stored(audio, teacher, tmp_path):
    needs = {"loss.targets_from": teacher}
    found = {}
    for labels in ("stored", "computed"):
        about = {"targets_from": "teacher", "targets_layer": 2, "labels": labels}
        config = pretraining(audio, schedule={"length": "2 updates"}, loss={**RUN["loss"], **about})
        recipe = train(config, tmp_path / labels, needs=needs)
        targets = recipe._targets
        found[labels] = (
            targets.identity,
            {
                (split, index): targets.labels(
                    split, index, first_frame=0, frames=int(frames)
                ).tolist()
                for split in ("train", "valid")
                for index, frames in enumerate(targets.frames(split))
            },
        )
        assert (tmp_path / labels / "labels").exists() == (labels == "stored")
        # A part of an item, as a crop asks for it.
        part_L = targets.labels("train", 1, first_frame=7, frames=20)
        assert part_L.tolist() == found[labels][1]["train", 1][7:27]
    assert found["stored"] == found["computed"]
    assert len({label for row in found["stored"][1].values() for label in row}) > 1
    # So the two runs learn the same.
    weights = [read_manifest(find_checkpoint(tmp_path / labels)).tensors(MODEL) for labels in found]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_run_without_a_k_means_model_is_refused(audio, tmp_path, make_config):
    train(make_config(schedule={"length": "1 updates"}), tmp_path / "separation")
    config = pretraining(audio, loss={**RUN["loss"], "kmeans_from": "s"})
    with pytest.raises(
        ConfigError, match=r"^loss.kmeans_from: .* has no k-means model; name a run"
    ):
        train(config, tmp_path / "run", needs={"loss.kmeans_from": tmp_path / "separation"})


def test_validation_of_different_targets_is_told_apart(audio, teacher, tmp_path):
    one = train(pretraining(audio, **RUN), tmp_path / "a")
    other = train(
        pretraining(audio, **{**RUN, "loss": {**RUN["loss"], "clusters": 11}}), tmp_path / "b"
    )
    assert one._targets.identity != other._targets.identity
    assert one._targets.identity == load_trained(teacher)[0]._targets.identity
