"""`sepdash lr-find`: what a person types and reads, refusals, and one real test."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from engine.data.synthetic import write_dataset
from engine.tuning.lr_curve import LrPoint, find, range_of
from jobs.home import Home
from jobs.lr_range import LrResult
from jobs.machine.lease import DeviceUse
from jobs.store.reader import StoreReader


@pytest.fixture
def answers(monkeypatch):
    """Let every test find the same curve; return a way to choose it."""
    chosen = {"losses": 5 - 3 / (1 + np.exp(-4 * (np.linspace(-6, 0, 200) + 3)))}

    def find_lr(home, config, *, test, device, emit):
        lrs = range_of(test.low, test.high, updates=test.updates)
        pairs = zip(lrs, chosen["losses"], strict=False)
        points = [LrPoint(lr, float(loss), grad_norm=1.0) for lr, loss in pairs]
        return LrResult("cpu", tuple(points), find(points))

    monkeypatch.setattr("jobs.lr_range.find_lr", find_lr)
    return chosen


def test_curve_suggestion_and_the_line_to_copy(sepdash, answers) -> None:
    answer = sepdash("lr-find", "demo/baseline")
    assert answer.code == 0
    assert "smoothed loss" in answer.out
    assert any("⠁" <= sign <= "⣿" for sign in answer.out)
    assert "1e-06" in answer.out
    last = answer.out.splitlines()[-1]
    assert re.fullmatch(r"--set optimizer\.lr=[0-9.e-]+", last)
    assert f"suggestion    {float(last.partition('=')[2]):.2g}: " in answer.out


def test_without_a_clear_answer_it_says_so_and_suggests_nothing(sepdash, answers) -> None:
    answers["losses"] = np.random.default_rng(0).normal(0, 1, 200)
    answer = sepdash("lr-find", "demo/baseline")
    assert answer.code == 0
    assert "no suggestion the loss did not fall clearly" in answer.out
    assert "--set" not in answer.out.splitlines()[-1]
    told = json.loads(sepdash("lr-find", "demo/baseline", "--json").out)
    assert (told["suggestion"], told["set"]) == (None, [])


def test_json_and_plot_hold_the_curve(sepdash, answers, tmp_path) -> None:
    file = tmp_path / "lr.svg"
    answer = sepdash("lr-find", "demo/baseline", "--json", "--plot", str(file))
    told = json.loads(answer.out)
    assert len(told["points"]) == 200
    assert told["points"][0]["lr"] == pytest.approx(1e-6)
    assert told["set"] == [f"optimizer.lr={told['suggestion']:g}"]
    assert "<svg" in file.read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["denoise/smal"], "denoise/small"),
        (["demo/baseline", "--min", "0.1", "--max", "0.01"], "--min 0.1 and --max 0.01: expected a maximum"),
        (["demo/baseline", "--min", "0"], "is not in the range"),
        (["demo/baseline", "--min", "nan"], "is not in the range"),
        (["demo/baseline", "--max", "inf"], "is not in the range"),
        (["demo/baseline", "--updates", "3"], "is not in the range"),
        (["demo/baseline", "--set", "optimiser.lr=3"], "optimiser"),
        (["demo/baseline", "--plot", "lr.txt"], "expected a file name ending in .svg"),
        (["demo/baseline", "--plot", "no-such/lr.svg"], "--plot no-such/lr.svg: the folder no-such does not exist"),
        (["demo/baseline", "--device", "tpu"], "expected auto, cpu, cuda or cuda:N"),
        (["demo/baseline", "--device", "cpu", "--set", "init_from=night-1"], "init_from: no run 'night-1'"),
    ],
)  # fmt: skip
def test_what_can_not_be_is_refused_in_one_line(sepdash, arguments, message) -> None:
    answer = sepdash("lr-find", *arguments)
    assert answer.code == 2
    assert message in answer.err
    assert "Traceback" not in answer.err


def test_a_device_in_use_is_refused_and_the_test_starts_nothing(sepdash) -> None:
    home = Home.locate(None).create()
    with DeviceUse(home.locks, "cpu", purpose="training run 3. Stop it first"):
        answer = sepdash("lr-find", "demo/baseline", "--device", "cpu")
    assert answer.code == 2
    assert re.search(r"cpu is in use by process \d+: training run 3", answer.err)


@pytest.mark.slow
def test_missing_data_is_one_line_and_a_real_test_leaves_nothing(sepdash, tmp_path) -> None:
    missing = ["data.train=/nowhere/train", "data.valid=/nowhere/valid"]
    answer = sepdash(
        "lr-find", "bandwidth/small", *(x for text in missing for x in ("--set", text))
    )
    assert answer.code == 2
    assert "/nowhere/train" in answer.err
    assert "Traceback" not in answer.err

    write_dataset(tmp_path, tracks=2, duration_s=2.0)
    values = [
        f"data.train={tmp_path / 'train'}", f"data.valid={tmp_path / 'valid'}", "data.rate_hz=8000",
        "data.segment_s=0.25", "data.input_rates_hz=[2000]", "model.width=4", "batch.items=4",
        "batch.micro_batch=4", "precision.threads=1", "stop_when.target=3",
    ]  # fmt: skip
    answer = sepdash(
        "lr-find", "bandwidth/small", "--updates", "40", "--device", "cpu", "--json",
        *(x for text in values for x in ("--set", text)),
    )  # fmt: skip
    assert answer.code == 0, answer.err
    told = json.loads(answer.out)
    lrs = [point["lr"] for point in told["points"]]
    assert lrs == range_of(1e-6, 1.0, updates=40)[: len(lrs)]
    assert len(lrs) >= 20
    assert all(point["loss"] is None or np.isfinite(point["loss"]) for point in told["points"])
    assert told["reason"]
    home = Home.locate(None)
    with StoreReader(home.store) as reader:
        assert reader.runs() == []
    assert list((home.root / "runs").iterdir()) == []
