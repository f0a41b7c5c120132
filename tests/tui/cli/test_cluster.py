"""`sepdash cluster`: what a person types and reads, refusals, a stop with ctrl-c that loses nothing."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import numpy as np
import pytest

from jobs import submit
from jobs.clustering import Clustering, Progress
from jobs.home import Home
from tests.pretraining import pretraining, write_audio
from tests.waiting import until

REPORT = {
    "clusters": 10, "frames": 300, "used": 3, "inertia": 37.5, "perplexity": 2.5, "largest_share": 0.5,
}  # fmt: skip


@pytest.fixture(scope="module")
def audio(tmp_path_factory):
    return write_audio(tmp_path_factory.mktemp("audio"))


@pytest.fixture
def asked(monkeypatch):
    """Answer at once; return what was asked for."""
    found = {}

    def cluster(home, config, *, folder, device, emit):
        found.update(config=config, folder=folder, device=device)
        for done in (0, 1, 2, 3, 4):
            emit(Progress("clusters", done, total=4, number=2, count=3))
        emit(Progress(text="only 3 of 10 clusters\x1b[31m are in use", is_warning=True))
        return Clustering(
            folder, stopped=found.get("stopped", False), results={"clusters": {"report": REPORT}}
        )

    monkeypatch.setattr("jobs.clustering.cluster", cluster)
    return found


def data_of(audio):
    return ["--set", f"data.train={audio / 'train'}", "--set", f"data.valid={audio / 'valid'}"]


def test_progress_report_and_the_settings_to_copy(sepdash, asked, audio):
    answer = sepdash("cluster", "mfcc", "--k", "10", *data_of(audio))
    assert answer.code == 0, answer.err
    assert asked["config"].loss.clusters == 10
    assert asked["config"].loss.targets_from is None
    assert asked["folder"].name == "mfcc-k10"
    lines = answer.err.splitlines()
    assert lines[0] == "clusters (2 of 3) 0%"
    assert lines[1].startswith("clusters (2 of 3) 25%, ")
    assert lines[1].endswith(" left")
    assert lines[4] == "clusters (2 of 3) 100%"
    assert lines[5] == "warning: only 3 of 10 clusters are in use"
    first, *_, last = answer.out.splitlines()
    assert first.startswith("sample:     300 frames in 3 of 10 clusters, perplexity 2.5")
    assert (
        last
        == f"to train on them: --set loss.kmeans_from={asked['folder']}/stages/clusters --set loss.clusters=10"
    )
    told = json.loads(sepdash("cluster", "mfcc", "--k", "10", "--json", *data_of(audio)).out)
    assert told["results"] == {"clusters": {"report": REPORT}}


def test_a_run_brings_its_data_and_its_grid(sepdash, asked, audio):
    submit.enqueue(Home.locate(), pretraining(audio), name="first")
    answer = sepdash("cluster", "first", "--layer", "2")
    assert answer.code == 0, answer.err
    config = asked["config"]
    assert config.data.train == audio / "train"
    assert (config.loss.targets_from, config.loss.targets_layer, config.loss.clusters) == (
        "first",
        2,
        500,
    )
    assert config.model.conv_channels == (8,) * 7
    assert asked["folder"].name == "first-layer2-k500"
    assert answer.out.splitlines()[-1].endswith(
        "--set loss.clusters=500 --set loss.targets_from=first --set loss.targets_layer=2"
    )


def test_a_stop_is_said_and_has_a_code_of_its_own(sepdash, asked, audio):
    asked["stopped"] = True
    answer = sepdash("cluster", "mfcc", *data_of(audio))
    assert answer.code == 130
    assert answer.err.splitlines()[-1] == "stopped; the same command continues"
    assert answer.out == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mfcc", "--layer", "2"], "--layer: MFCCs have no layers; leave it out"),
        (["first"], "--layer: expected the layer of the run to cluster, as in --layer 6"),
        (["nobody", "--layer", "2"], "no run 'nobody'"),
        (
            ["first", "--layer", "3"],
            "run first has 2 layers, but loss.targets_layer = 3; expected 0 to 2",
        ),
        (["./nothing", "--layer", "1"], "contains no checkpoint"),
        (["mfcc", "--k", "1"], "1 is not in the range 2<=x<=65535"),
    ],
)
def test_mistakes_are_one_line(sepdash, audio, arguments, message):
    submit.enqueue(Home.locate(), pretraining(audio), name="first")
    answer = sepdash("cluster", *arguments, *data_of(audio))
    assert answer.code == 2
    assert message in answer.err
    assert len(answer.err.splitlines()) == 1


@pytest.mark.slow
def test_ctrl_c_loses_nothing(sepdash, audio, tmp_path):
    arguments = ["cluster", "mfcc", "--k", "20", *data_of(audio), "--device", "cpu",
                 "--set", "data.min_s=0.5", "--set", "data.join_s=0", "--set", "loss.kmeans_starts=40"]  # fmt: skip
    whole = sepdash(*arguments, "-o", str(tmp_path / "whole"))
    assert whole.code == 0, whole.err
    folder = tmp_path / "parts"
    for number in range(2):
        process = subprocess.Popen(
            [sys.executable, "-m", "tui.main", *arguments, "-o", str(folder)],
            stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        lines = []
        for line in process.stderr:
            lines.append(line.decode())
            # The first time at once, then where something is there to be kept.
            if lines[-1].startswith("clusters ") and (number == 0 or " 0%" not in lines[-1]):
                process.send_signal(signal.SIGINT)
                break
        rest = process.stderr.read().decode()
        assert process.wait(timeout=120) == 130, rest
        assert "stopped; the same command continues" in rest
        until((folder / "stages" / "clusters" / "manifest.json").exists, "a saved stage")
        done = json.loads((folder / "stages" / "clusters" / "manifest.json").read_text())["done"]
        assert done > 0 or number == 0
    again = sepdash(*arguments, "-o", str(folder))
    assert again.code == 0, again.err
    assert again.out.count("of 20 clusters") == 2
    one, other = (
        {
            path.parent.name + path.name: np.fromfile(path, np.uint8)
            for path in (tmp_path / name / "labels").rglob("*.u*")
        }
        for name in ("whole", "parts")
    )
    assert len(one) == 4
    assert all(np.array_equal(one[name], other[name]) for name in one)
    # Other settings for the same folder are refused, and nothing is lost.
    answer = sepdash(*arguments, "-o", str(folder), "--set", "seed=3")
    assert answer.code == 2
    assert "other settings (seed); choose another folder with -o" in answer.err
    # What is there is not made again, and a run takes it.
    assert sepdash(*arguments, "-o", str(folder)).code == 0
