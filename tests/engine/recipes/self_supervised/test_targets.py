"""Targets: one k-means model for both splits, the same bits after any stop, stale where files changed."""

from __future__ import annotations

import importlib.util
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from engine.audio.mfcc import Mfcc
from engine.config.errors import ConfigError, DataError
from engine.events import Noticed, StageProgressed
from engine.item_random import item_generator
from engine.recipes.self_supervised import target_features
from engine.recipes.self_supervised.kmeans_model import read_kmeans
from engine.recipes.stored_labels.label_files import LabelFiles, Words
from tests.waiting import until

FAKES = Path(__file__).parent / "fakes" / "make_targets.py"
spec = importlib.util.spec_from_file_location("make_targets", FAKES)
fakes = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fakes)
sys.modules["make_targets"] = fakes
make, Config = fakes.make, fakes.Config


@pytest.fixture(autouse=True)
def _short_steps(monkeypatch):
    monkeypatch.setattr(target_features.MfccSource, "chunk_s", 0.5)


def write(path, *, seed, seconds=0.6):
    draw = item_generator(seed, 0, 0, "tone")
    time = np.arange(round(16_000 * seconds)) / 16_000
    hz = 200 * 2 ** draw.uniform(0, 4)
    wave = 0.3 * np.sin(2 * np.pi * hz * time * (1 + 0.2 * time)) + 0.02 * draw.normal(
        size=len(time)
    )
    soundfile.write(path, wave.astype(np.float32), 16_000, subtype="FLOAT")


@pytest.fixture(scope="module")
def audio(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audio")
    for split, count in (("train", 10), ("valid", 4)):
        (folder / split).mkdir()
        for number in range(count):
            write(
                folder / split / f"{number}.wav",
                seed=number + 100 * len(split),
                seconds=0.4 + 0.07 * number,
            )
    return folder


def labels_of(recipe):
    targets = recipe.targets
    return {
        (split, index): targets.labels(split, index, first_frame=0, frames=int(frames)).tolist()
        for split in ("train", "valid")
        for index, frames in enumerate(targets.frames(split))
    }


def bytes_of(folder):
    """All that is left of a run: centroids and labels."""
    files = [*(folder / "labels").rglob("*"), *(folder / "stages").rglob("stage.safetensors")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if path.is_file()}


@pytest.fixture(scope="module")
def whole(audio, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    before = target_features.MfccSource.chunk_s
    target_features.MfccSource.chunk_s = 0.5
    reason, recipe, stages, events = make(folder, audio)
    target_features.MfccSource.chunk_s = before
    assert reason is None
    return folder, recipe, stages, events


def test_labels_are_the_nearest_centroid_of_each_frame_of_both_splits(whole, audio):
    _, recipe, stages, _ = whole
    centroids_KD = stages.results["clusters"].tensors["centroids"].double()
    mfcc = Mfcc(16_000)
    found = labels_of(recipe)
    for split in ("train", "valid"):
        for index, path in enumerate(sorted((audio / split).glob("*.wav"))):
            wave, _ = soundfile.read(path, dtype="float32")
            distance_LK = torch.cdist(mfcc(wave).double(), centroids_KD)
            label_L = torch.tensor(found[split, index])
            chosen_L = distance_LK.gather(1, label_L[:, None])[:, 0]
            assert len(label_L) == mfcc.frames(len(wave))
            assert (chosen_L <= distance_LK.amin(dim=1) + 1e-4).all()
    assert len({label for one in found.values() for label in one}) == 12


def test_a_part_of_an_item_has_the_labels_of_its_frames_and_no_others(whole):
    targets = whole[1].targets
    all_L = targets.labels("train", 9, first_frame=0, frames=int(targets.frames("train")[9]))
    assert all_L.dtype == np.int64
    assert np.array_equal(targets.labels("train", 9, first_frame=5, frames=7), all_L[5:12])
    with pytest.raises(ValueError, match=r"9.wav has \d+ labels, but frames 40 to 90"):
        targets.labels("train", 9, first_frame=40, frames=50)


def test_computed_labels_are_the_stored_ones_also_in_another_process(whole, audio, tmp_path):
    config = Config(labels="computed")
    _, recipe, stages, _ = make(tmp_path, audio, config=config)
    assert list(stages.results) == ["clusters"]
    assert not (tmp_path / "labels").exists()
    assert labels_of(recipe) == labels_of(whole[1])
    copy = pickle.loads(pickle.dumps(recipe.targets))
    assert np.array_equal(
        copy.labels("valid", 1, first_frame=2, frames=5),
        whole[1].targets.labels("valid", 1, first_frame=2, frames=5),
    )
    with pytest.raises(ValueError, match="labels, but frames"):
        copy.labels("valid", 1, first_frame=2, frames=500)


def test_stages_are_shown_and_reported(whole):
    _, _, stages, events = whole
    names = [event.name for event in events if isinstance(event, StageProgressed)]
    assert list(dict.fromkeys(names)) == ["reservoir", "clusters", "labels"]
    texts = [event.message for event in events if isinstance(event, Noticed)]
    assert texts[0].startswith("k-means of 39-dimensional MFCC: ")
    assert "12 of 12 clusters" in texts[0]
    assert texts[1].startswith("labels of data.train: ")
    assert stages.results["labels"].values["kmeans"] == stages.results["clusters"].values["hash"]
    report = stages.results["clusters"].values["report"]
    assert report["frames"] == 12 * 20
    assert 1 < report["perplexity"] <= 12


@pytest.mark.parametrize("every", [1, 5, 17])
def test_stopped_again_and_again_gives_the_same_bits_and_never_writes_a_frame(
    every, whole, audio, tmp_path
):
    number = 0
    while True:
        # The sample is read again after each stop, so each start has to come further than that.
        _, _, stages, _ = make(tmp_path, audio, stop_after=every + 30 * (number > 0))
        if "labels" in stages.results:
            break
        number += 1
        assert number < 200
    assert number >= 1
    assert bytes_of(tmp_path) == bytes_of(whole[0])
    assert {path.name for path in (tmp_path / "stages").iterdir()} == {"clusters", "labels"}


def test_frames_never_reach_the_disk(audio, tmp_path):
    seen = []

    def noting(recipe):
        source = recipe.targets.source
        frames = source.frames

        def noted(wave_T, *, device):
            feat_LD = frames(wave_T, device=device)
            seen.extend(feat_LD[: len(feat_LD) // 2].numpy().copy())
            return feat_LD

        source.frames = noted

    for stop in (12, 40, 10_000):
        make(tmp_path, audio, stop_after=stop, prepare=noting)
        written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
        # While centroids are sown, some are frames: at most as many as there are clusters.
        found = {row.tobytes() for row in seen if row.tobytes() in written}
        assert len(found) <= 12 * 2
    assert len(seen) > 300
    assert len(found) <= 12


@pytest.mark.slow
def test_killed_in_every_stage_gives_the_same_bits(whole, audio, tmp_path):
    folder = tmp_path / "run"
    for death in (
        ("reservoir", "4"),
        ("clusters", "1"),
        ("clusters", "40"),
        ("labels", "3"),
        ("labels", "8"),
    ):
        killed = subprocess.run(
            [sys.executable, str(FAKES), str(folder), str(audio), *death],
            env={**os.environ, "PYTHONPATH": str(Path.cwd()), "OMP_NUM_THREADS": "1"},
            check=False,
        )
        assert killed.returncode == -9, death
    reason, recipe, _, _ = make(folder, audio)
    assert reason is None
    assert bytes_of(folder) == bytes_of(whole[0])
    # What was labelled before the kill was not read again.
    assert len(recipe.data["train"].read) + len(recipe.data["valid"].read) < 10


def test_a_changed_file_makes_its_labels_stale_and_that_is_said(audio, tmp_path):
    here = tmp_path / "audio"
    for split in ("train", "valid"):
        (here / split).mkdir(parents=True)
        for path in sorted((audio / split).iterdir()):
            (here / split / path.name).write_bytes(path.read_bytes())
    _, recipe, stages, _ = make(tmp_path / "run", here)
    before = labels_of(recipe)
    write(here / "valid" / "2.wav", seed=77, seconds=0.4 + 0.07 * 2)
    for known in (stages.results, {}):
        _, recipe, stages, events = make(tmp_path / "run", here, known=known)
        notices = [event for event in events if isinstance(event, Noticed)]
        if known:
            assert notices[0].kind == "stage-lost"
            assert "1 of 4 items of data.valid are stale" in notices[0].message
            assert "(2.wav)" in notices[0].message
            assert recipe.data["valid"].read == [2]
            assert recipe.data["train"].read == []
            after = labels_of(recipe)
            assert {key for key in before if before[key] != after[key]} == {("valid", 2)}
        else:
            assert notices == []
    # Lost files are made again, too.
    labels = next((tmp_path / "run" / "labels").rglob("train/labels.u16"))
    labels.unlink()
    _, recipe, _, events = make(tmp_path / "run", here)
    assert next(event.kind for event in events if isinstance(event, Noticed)) == "stage-lost"
    assert labels_of(recipe) == after


class _OneItem:
    """A data set whose only item is joined of several files."""

    def __init__(self, paths):
        self.paths = [str(path) for path in paths]

    def files(self, index):
        return self.paths

    def key(self, index):
        return "item"

    def __len__(self):
        return 1


def test_of_an_item_of_several_files_the_one_that_has_changed_is_named(tmp_path):
    paths = [tmp_path / name for name in ("a.wav", "b.wav", "c.wav")]
    for path in paths:
        path.write_bytes(b"before")
    written_ns = paths[2].stat().st_ctime_ns

    def replaced() -> bool:
        paths[1].write_bytes(b"after")
        # As `cp -p` does: with the time of an older original.
        os.utime(paths[1], ns=(0, 0))
        return paths[1].stat().st_ctime_ns > written_ns

    until(replaced, "the clock of the file system goes on")
    files = LabelFiles(
        tmp_path / "none",
        items=_OneItem(paths),
        labels_N=np.ones(1),
        model="",
        values=2,
        words=Words(),
    )
    # Nobody touched these files: what was made of them is gone, and nothing else is said.
    text = "the labels of 1 of 1 items of data.train are missing"
    assert files.stale_text("data.train") == text
    files.create()
    assert files.stale_text("data.train") == text
    np.full(1, 7, "<u8").tofile(tmp_path / "none" / "items.u64")
    assert "stale, since their files have changed (b.wav)" in files.stale_text("data.train")
    paths[2].unlink()
    assert "stale, since their files have changed (c.wav)" in files.stale_text("data.train")


def test_a_label_outside_the_clusters_is_refused(whole, audio, tmp_path):
    _, recipe, _, _ = make(tmp_path, audio)
    files = recipe.targets.label_files("train")
    with pytest.raises(ValueError, match="label 12, but the k-means model has 12 clusters"):
        files.write(0, np.full(recipe.targets.frames("train")[0], 12))
    with pytest.raises(ValueError, match=r"3 labels for \d+ frames"):
        files.write(0, np.zeros(3, np.int64))
    path = next((tmp_path / "labels").rglob("train/labels.u16"))
    data = np.fromfile(path, "<u2")
    data[5] = 12
    data.tofile(path)
    assert files.stale() == [0]
    assert labels_of(make(tmp_path, audio)[1]) == labels_of(whole[1])


def test_another_run_goes_on_with_the_k_means_model_of_this_one(whole, audio, tmp_path):
    folder, recipe, _, _ = whole
    config = Config(kmeans_from=str(folder))
    needs = {"loss.kmeans_from": folder / "stages" / "clusters"}
    _, other, _, events = make(tmp_path, audio, config=config, needs=needs)
    assert other.targets.model.hash == recipe.targets.model.hash
    assert labels_of(other) == labels_of(recipe)
    # Labels lie beside that model, and files are as they were: nothing is read.
    assert other.data["train"].read == other.data["valid"].read == []
    assert "reservoir" not in {event.name for event in events if isinstance(event, StageProgressed)}
    assert read_kmeans(tmp_path / "stages" / "clusters").hash == recipe.targets.model.hash
    assert any("is used again" in event.message for event in events if isinstance(event, Noticed))

    config = Config(kmeans_from=str(folder), clusters=13)
    with pytest.raises(ConfigError, match=r"loss.clusters: the k-means model has 12 clusters; set"):
        make(tmp_path / "b", audio, config=config, needs=needs)


def test_faulty_inputs_are_one_line_each(audio, tmp_path):
    with pytest.raises(
        ConfigError, match=r"^loss.clusters: 900, but the training data have \d+ frames; lower"
    ):
        make(tmp_path / "a", audio, config=Config(clusters=900))
    with pytest.raises(ValueError, match="greater than or equal to 2"):
        Config(clusters=1)
    silent = tmp_path / "silent"
    for split in ("train", "valid"):
        (silent / split).mkdir(parents=True)
        soundfile.write(silent / split / "a.wav", np.zeros(16_000), 16_000)
    with pytest.raises(DataError, match=r"^data.train: the sampled items are all digital silence"):
        make(tmp_path / "b", silent)


def test_few_clusters_in_use_warn(tmp_path):
    # Two sounds, and frames that repeat exactly: most clusters have nothing.
    here = tmp_path / "audio"
    wave = np.tile(np.sin(2 * np.pi * np.arange(320) / 16).astype(np.float32), 60)
    for split in ("train", "valid"):
        (here / split).mkdir(parents=True)
        for number in range(3):
            soundfile.write(here / split / f"{number}.wav", wave, 16_000, subtype="FLOAT")
    _, _, _, events = make(
        tmp_path / "run", here, config=Config(clusters=40, frames_per_cluster=10)
    )
    warnings = [e.message for e in events if isinstance(e, Noticed) and e.level == "warning"]
    assert len(warnings) == 2
    assert "of 40 clusters are in use; expected at least half" in warnings[0]
