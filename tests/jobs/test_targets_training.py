"""Targets through queue and worker: two iterations end to end, killed in every stage on the way."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest
from safetensors.numpy import load_file

from jobs import submit
from jobs.home import Home
from jobs.store.reader import StoreReader
from tests.jobs.small_training import worker
from tests.pretraining import pretraining, write_audio
from tests.waiting import until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return pretraining(
        write_audio(tmp_path_factory.mktemp("audio")),
        loss={
            "clusters": 8, "frames_per_cluster": 20, "kmeans_starts": 1, "iterations": 2,
            "later": ["2: loss.clusters=6", "2: loss.targets_layer=1"],
        },
        schedule={"length": "6 updates"}, validation={"every": "6 updates"},
        checkpoint={"every": "2 updates", "best": ["val_loss"]}, logging={"flush_s": 0.05},
    )  # fmt: skip


def of(home, run_id):
    with StoreReader(home.store) as reader:
        return reader.run(run_id), reader.events(run_id)


def left(home, run_id):
    """Labels, centroids and weights of a run."""
    folder = home.run_folder(run_id)
    files = sorted((folder / "labels").rglob("*.u16"))
    arrays = {file.parent.name: np.fromfile(file, "<u2") for file in files}
    for name in ("model", "recipe"):
        arrays |= load_file(folder / "checkpoints" / "last-000006" / f"{name}.safetensors")
    return arrays


def drain(home):
    with worker(home) as process:
        assert process.wait(timeout=250) == 0


@pytest.mark.long
def test_two_iterations_end_to_end_and_killed_in_every_stage(tmp_path, config):
    quiet, disturbed = (Home(tmp_path / name).create() for name in ("quiet", "disturbed"))
    for home in (quiet, disturbed):
        assert submit.enqueue(home, config, name="x") == 2
    drain(quiet)
    for run_id in (1, 2):
        run, events = of(quiet, run_id)
        assert run.state == "finished", events
    messages = " ".join(event.message for event in of(quiet, 2)[1])
    assert "k-means of layer 1 of " in messages
    assert "of 6 clusters" in messages
    assert messages.count("stage ") == 0

    # A kill as soon as each stage is seen; the worker starts the run again.
    with worker(disturbed) as process:
        for run_id in (1, 2):
            for stage in ("clusters", "labels"):
                folder = disturbed.run_folder(run_id) / "stages" / stage
                until(folder.exists, f"stage {stage} of run {run_id}")
                pid = of(disturbed, run_id)[0].pid
                if pid:
                    os.kill(pid, signal.SIGKILL)
            until(
                lambda run_id=run_id: of(disturbed, run_id)[0].state == "finished", f"run {run_id}"
            )
        assert process.wait(timeout=250) == 0
    for run_id in (1, 2):
        one, other = left(quiet, run_id), left(disturbed, run_id)
        assert one.keys() == other.keys()
        assert {"train", "valid", "stage.clusters.centroids"} <= one.keys()
        assert [name for name in one if not np.array_equal(one[name], other[name])] == []
