"""Further pre-training through queue and worker: weights and k-means model of a run, or of other libraries."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import load_file

from engine.config.errors import ConfigError
from engine.exchange.exporting import export_model
from engine.exchange.importing import ImportOptions, import_model
from engine.exchange.sizes import Hints
from engine.recipes.self_supervised.kmeans_model import read_kmeans
from jobs import submit
from jobs.home import Home
from jobs.store.reader import StoreReader
from jobs.store.records import ALL_POINTS
from tests.jobs.small_training import worker
from tests.pretraining import pretraining, write_audio

HINTS = Hints((5, 2, 2, 2, 2, 2, 2), 2, None)


@pytest.fixture(scope="module")
def audio(tmp_path_factory):
    return write_audio(tmp_path_factory.mktemp("audio"))


def config_for(audio, *, more=None, init_from=None, **loss):
    """Return a run of 4 updates; `more` is another folder to train on."""
    config = pretraining(
        audio,
        data={"train": str((more or audio) / "train")},
        loss={"clusters": 8, "frames_per_cluster": 20, "kmeans_starts": 1, **loss},
        schedule={"length": "4 updates"}, validation={"every": "4 updates"},
        checkpoint={"every": "4 updates", "best": ["val_loss"]}, logging={"flush_s": 0.05},
    )  # fmt: skip
    return config.model_copy(update={"init_from": init_from})


def drain(home):
    with worker(home) as process:
        return process.wait(timeout=600)


def left(home, run_id):
    with StoreReader(home.store) as reader:
        return (
            reader.run(run_id).state,
            " ".join(event.message for event in reader.events(run_id)),
            reader.curve(run_id, "val_loss", max_points=ALL_POINTS).last,
        )


def labels(home, run_id, split):
    (path,) = (home.run_folder(run_id) / "labels").rglob(f"{split}/labels.u16")
    return np.fromfile(path, "<u2")


@pytest.mark.slow
def test_further_pre_training_goes_on_with_weights_and_clusters(tmp_path, audio):
    home = Home(tmp_path / "home").create()
    more = write_audio(tmp_path / "more", seed=5)
    submit.enqueue(home, config_for(audio), name="first")
    both = {"init_from": "first@last", "kmeans_from": "first@last"}
    submit.enqueue(home, config_for(audio, more=more, **both), name="more")
    assert drain(home) == 0
    checkpoints = {n: home.run_folder(n) / "checkpoints" / "last-000004" for n in (1, 2)}

    # The same from files that other libraries write: weights, and centroids beside them.
    export_model(checkpoints[1], library="torchaudio", out=tmp_path / "theirs")
    np.save(tmp_path / "km.npy", read_kmeans(checkpoints[1]).centroids_KD.numpy())
    options = ImportOptions(kind="hubert", hints=HINTS)
    import_model(tmp_path / "theirs" / "model.safetensors", out=tmp_path / "mine", options=options)
    theirs = {"init_from": str(tmp_path / "mine"), "kmeans_from": str(tmp_path / "km.npy")}
    submit.enqueue(home, config_for(audio, more=more, **theirs), name="imported")
    assert drain(home) == 0
    checkpoints[3] = home.run_folder(3) / "checkpoints" / "last-000004"

    model = read_kmeans(checkpoints[1]).hash
    ((_, _, first), (_, said, curve), (_, told, other)) = (left(home, n) for n in (1, 2, 3))
    for number, text in ((2, said), (3, told)):
        assert read_kmeans(checkpoints[number]).hash == model
        assert f"k-means model {model} (39-dimensional MFCC" in text
        assert np.array_equal(labels(home, 1, "valid"), labels(home, number, "valid"))
    assert np.array_equal(labels(home, 2, "train"), labels(home, 3, "train"))
    # What is evaluated before the first update are the weights of the first run, on its clusters.
    assert curve[0] == pytest.approx(first[-1], rel=1e-5)
    assert other[0] == pytest.approx(first[-1], rel=1e-5)
    weights = {n: load_file(folder / "model.safetensors") for n, folder in checkpoints.items()}
    assert not np.array_equal(weights[1]["label_embeddings"], weights[2]["label_embeddings"])
    for name, values in weights[2].items():
        np.testing.assert_allclose(weights[3][name], values, atol=1e-5)


def test_a_file_of_centroids_that_can_not_be_used_is_refused_when_it_is_queued(
    tmp_path, audio, monkeypatch
):
    home = Home(tmp_path / "home").create()
    monkeypatch.chdir(tmp_path)
    np.save(tmp_path / "km.npy", np.ones((8, 39), np.float32))
    submit.enqueue(home, config_for(audio, kmeans_from="./km.npy"), name="good")
    with StoreReader(home.store) as reader:
        assert reader.config(1)["loss"]["kmeans_from"] == str(tmp_path / "km.npy")
    np.save(tmp_path / "seven.npy", np.ones((7, 39), np.float32))
    (tmp_path / "km.bin").write_bytes(b"\x80\x04}.")
    for text, told in {
        "./seven.npy": r"^loss.kmeans_from: .*seven.npy has 7 centroids, but loss.clusters = 8; set it to 7$",
        "./km.bin": "is a pickle, and was not read(.|\n)*import joblib, numpy\n  numpy.save",
        "./none.npy": r"none.npy does not exist; expected a .npy file of centroids$",
        "km.npy": r"no run 'km.npy'.*write a file with a slash: ./km.npy",
        "./none": "contains no checkpoint",
    }.items():
        with pytest.raises(ConfigError, match=told) as caught:
            submit.enqueue(home, config_for(audio, kmeans_from=text))
        assert len(caught.value.problems) == 1
    # Only this setting takes a file.
    with pytest.raises(ConfigError, match=r"^init_from: .*km.npy contains no checkpoint"):
        submit.enqueue(home, config_for(audio, init_from="./km.npy"))
    with StoreReader(home.store) as reader:
        assert [run.name for run in reader.runs()] == ["good"]
