"""Further pre-training: weights and the k-means model that they were trained on, together or not at all."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from engine.checkpoints.find import find_checkpoint
from engine.config.errors import ConfigError
from engine.events import Noticed
from engine.exchange.exporting import export_model
from engine.exchange.importing import ImportOptions, import_model
from engine.exchange.sizes import Hints
from engine.recipes.base import Opening
from engine.recipes.registry import open_recipe
from engine.recipes.self_supervised.kmeans_model import kmeans_of
from engine.recipes.trained import load_trained
from engine.training.trainer import Trainer
from tests.pretraining import pretraining, write_audio

LOSS = {"clusters": 8, "frames_per_cluster": 20, "kmeans_starts": 1}
HINTS = Hints((5, 2, 2, 2, 2, 2, 2), 2, None)


@pytest.fixture(scope="module")
def audio(tmp_path_factory):
    return write_audio(tmp_path_factory.mktemp("audio"))


class Never:
    """Never asks to stop."""

    def stop_reason(self):
        return None


class Hears:
    """Keeps what people are warned of in their clusters."""

    def __init__(self):
        self.warnings = []

    def on_event(self, event):
        if isinstance(event, Noticed) and event.level == "warning" and "cluster" in event.message:
            self.warnings.append(event.message)


def train(audio, folder, *, needs=None, strict=True, **loss):
    """Train two updates; return the targets and the warnings."""
    needs = needs or {}
    config = pretraining(audio, loss={**LOSS, **loss}, schedule={"length": "2 updates"})
    start = "first" if "init_from" in needs else None
    config = config.model_copy(update={"init_from": start, "init_strict": strict})
    recipe = open_recipe(config, opening=Opening(folder, needs))
    hears = Hears()
    trainer = Trainer(config, recipe, folder=folder, observers=[hears], control=Never())
    trainer.fit(init_from=needs.get("init_from"))
    return recipe._targets, hears.warnings


@pytest.fixture(scope="module")
def first(audio, tmp_path_factory):
    """The checkpoint of a run of two updates on MFCCs."""
    folder = tmp_path_factory.mktemp("first")
    train(audio, folder)
    return find_checkpoint(folder)


@pytest.fixture
def imported(first, tmp_path):
    """A folder with the weights and the centroids of the first run as another library has them."""
    export_model(first, library="torchaudio", out=tmp_path / "out")
    np.save(tmp_path / "km.npy", kmeans_of(first).centroids_KD.numpy())
    for name, centroids in {"plain": None, "both": tmp_path / "km.npy"}.items():
        import_model(
            tmp_path / "out" / "model.safetensors",
            out=tmp_path / name,
            options=ImportOptions(kind="hubert", hints=HINTS, centroids=centroids),
        )
    return tmp_path


def labels_of(targets):
    return {
        (split, index): targets.labels(split, index, first_frame=0, frames=int(frames)).tolist()
        for split in ("train", "valid")
        for index, frames in enumerate(targets.frames(split))
    }


@pytest.mark.parametrize("how", ["a file", "both in one"])
def test_centroids_from_elsewhere_give_the_labels_that_they_gave_there(
    audio, first, imported, tmp_path, how
):
    needs = {
        "a file": {"init_from": imported / "plain", "loss.kmeans_from": imported / "km.npy"},
        "both in one": {"init_from": imported / "both", "loss.kmeans_from": imported / "both"},
    }[how]
    targets, warnings = train(audio, tmp_path / "run", needs=needs, kmeans_from="./km")
    # Both are of MFCCs, so that nothing but the hash tells them apart.
    assert targets.model.hash == kmeans_of(first).hash
    assert warnings == []
    recipe, _ = load_trained(tmp_path / "run")
    assert recipe._targets.model.hash == kmeans_of(first).hash
    own, _ = train(audio, tmp_path / "own")
    assert labels_of(targets) == labels_of(own)


def test_the_layers_of_imported_weights_are_those_of_a_trained_network(audio, imported, tmp_path):
    draw = np.random.default_rng(0).normal(size=(8, 16)).astype(np.float32)
    np.save(tmp_path / "layer.npy", draw)
    needs = {"loss.targets_from": imported / "plain", "loss.kmeans_from": tmp_path / "layer.npy"}
    about = {"targets_from": "./plain", "targets_layer": 1, "kmeans_from": "./layer.npy"}
    targets, _ = train(audio, tmp_path / "run", needs=needs, **about)
    _, model = load_trained(imported / "plain")
    wave_BT = torch.from_numpy(targets.items("train").audio(2))[None]
    feat_LD = model.layer_features(wave_BT)[1][0].detach()
    expected_L = torch.cdist(feat_LD, torch.from_numpy(draw)).argmin(dim=1)
    assert labels_of(targets)["train", 2] == expected_L.tolist()
    # One k-means model on another layer is another one.
    targets, _ = train(audio, tmp_path / "other", needs=needs, **{**about, "targets_layer": 2})
    hashes = {kmeans_of(find_checkpoint(tmp_path / name)).hash for name in ("run", "other")}
    assert len(hashes) == 2

    with pytest.raises(
        ConfigError,
        match=r"^loss.kmeans_from: the centroids \(imported from .*km.npy\) have 39 dimensions, but layer 1 "
        r"of .* has 16; set loss.targets_from and loss.targets_layer",
    ):
        train(
            audio, tmp_path / "wide", needs={**needs, "loss.kmeans_from": imported / "km.npy"}, **about
        )  # fmt: skip


def test_weights_of_other_clusters_are_refused_by_hash(audio, first, imported, tmp_path):
    centroids = kmeans_of(first).centroids_KD.numpy()
    np.save(tmp_path / "other.npy", centroids + np.float32(1e-3))
    needs = {"init_from": first, "loss.kmeans_from": tmp_path / "other.npy"}
    mine = kmeans_of(first).hash
    with pytest.raises(
        ConfigError,
        match=rf"^loss.kmeans_from: ./other.npy has k-means model [0-9a-f]{{16}}, but the weights in .* were "
        rf"trained on k-means model {mine} \(39-dimensional MFCC\); name one run in both settings, or",
    ):
        train(audio, tmp_path / "run", needs=needs, kmeans_from="./other.npy")
    targets, _ = train(
        audio, tmp_path / "free", needs=needs, strict=False, kmeans_from="./other.npy"
    )
    assert targets.model.hash != mine
    # Nothing is known of the clusters of weights that came alone.
    train(
        audio, tmp_path / "alone", needs={**needs, "init_from": imported / "plain"},
        kmeans_from="./other.npy",
    )  # fmt: skip


def test_new_clusters_under_trained_weights_are_warned_of(audio, first, tmp_path):
    # The same data give the same clusters.
    targets, warnings = train(audio, tmp_path / "same", needs={"init_from": first})
    assert (targets.model.hash, warnings) == (kmeans_of(first).hash, [])
    _, warnings = train(
        write_audio(tmp_path / "audio", seed=2), tmp_path / "new", needs={"init_from": first}
    )
    assert [text for text in warnings if "new clusters were fitted, but the weights in" in text]
