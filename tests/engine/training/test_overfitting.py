"""Claims about over-fitting: how rarely noise is taken for it, that a real one is found, and that resume keeps it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import soundfile

from engine.config.counters import Counters
from engine.events import Evaluated, Noticed
from engine.recipes.registry import open_recipe
from engine.training.overfitting import OverfitWatch, trend
from engine.training.trainer import Trainer
from tests.engine.training.test_rising import noise

RUNS, EVALUATIONS = 20, 100


def reported_at(config: Any, valid: Any, train: Any) -> int:
    """Return the evaluation at which a run of these losses is reported, 0 where it never is."""
    watch = OverfitWatch(config)
    for number, (one, other) in enumerate(zip(valid, train, strict=True), start=1):
        watch.add(Counters(number), {"val_loss": float(one), "val_loss_train": float(other)})
        if watch.report():
            assert watch.report() == ""
            return number
    return 0


def share(config: Any, draw: Any) -> float:
    """Return the share of runs of 100 evaluations that are reported."""
    found = [reported_at(config, *draw(np.random.default_rng(seed))) for seed in range(RUNS)]
    return float(np.mean([number > 0 for number in found]))


STEPS = np.arange(EVALUATIONS)


def falling(rng: Any) -> Any:
    return np.exp(-STEPS / 40) + 5e-4 * rng.normal(size=EVALUATIONS)


@pytest.mark.parametrize("keeps", [0.0, 0.7])
def test_noise_is_hardly_ever_taken_for_over_fitting(make_config, keeps):
    """A plateau, while training items are learnt by heart without harm. Many more runs: test_rising."""
    valid = 1 + 0.1 * noise(RUNS, EVALUATIONS, keeps=keeps)
    assert share(make_config(), lambda rng: (valid[rng.integers(RUNS)], falling(rng))) <= 0.05


def test_noise_on_both_is_never_taken_for_it(make_config):
    def draw(rng: Any) -> Any:
        return 1 + 0.1 * rng.normal(size=EVALUATIONS), 1 + 0.1 * rng.normal(size=EVALUATIONS)

    assert share(make_config(), draw) == 0


def test_a_rise_is_found_under_noise_of_the_size_of_some_steps(make_config):
    """Noise of 0.1: three steps of the rise."""

    def draw(rng: Any) -> Any:
        return 1 + 0.03 * STEPS + 0.1 * rng.normal(size=EVALUATIONS), falling(rng)

    assert share(make_config(), draw) >= 0.95


def test_what_must_not_be_reported(make_config):
    config = make_config()
    up, down = 1 + 0.1 * STEPS, np.exp(-STEPS / 40)
    assert reported_at(config, up, down) == 8
    # Both rise: the rate is too high, which is no over-fitting.
    assert reported_at(config, up, up) == 0
    assert reported_at(config, down, down) == 0
    # Less than a hundredth in all: the smallest difference that counts for a loss.
    assert reported_at(config, 1 + 9e-5 * STEPS, down) == 0
    assert reported_at(make_config(validation={"overfit_after": 20}), up, down) == 20


def test_the_statistic_is_that_of_kendall():
    from scipy.stats import kendalltau

    rng = np.random.default_rng(0)
    for _ in range(5):
        values = rng.normal(size=12)
        tau = kendalltau(np.arange(12), values).statistic
        expected = tau * 66 / np.sqrt(12 * 11 * 29 / 18)
        assert trend(values) == pytest.approx(expected)


@pytest.fixture
def by_heart(tmp_path, ctc_config):
    """A run on noise whose texts have nothing to do with it: what is learnt is the training items."""
    rng = np.random.default_rng(0)
    words = ["low", "mid", "top"]
    for split, count in (("train", 8), ("valid", 8)):
        rows = []
        for number in range(count):
            path = tmp_path / f"{split}-{number}.wav"
            soundfile.write(path, 0.1 * rng.normal(size=6_000), 8_000)
            rows.append(
                json.dumps({"path": path.name, "text": " ".join(rng.choice(words, size=3))})
            )
        (tmp_path / f"{split}.jsonl").write_text("\n".join(rows))
    return ctc_config(
        data={
            "train": str(tmp_path / "train.jsonl"), "valid": str(tmp_path / "valid.jsonl"),
            "time_masks": 0, "freq_masks": 0,
        },
        batch={"items": 8, "micro_batch": 8}, ema={"enabled": False},
        schedule={"length": "100 updates"}, validation={"every": "5 updates"},
        checkpoint={"every": "100 updates", "best": ["val_loss"]},
    )  # fmt: skip


def test_a_tiny_set_that_is_learnt_by_heart_is_reported_once_also_when_resumed(
    tmp_path, by_heart, new_recorder, stop_after
):
    def fit(name: str, control: Any) -> Any:
        recorder = new_recorder()
        Trainer(
            by_heart, open_recipe(by_heart), folder=tmp_path / name, observers=[recorder],
            control=control,
        ).fit()  # fmt: skip
        return recorder

    def reports(recorder: Any) -> list[tuple[int, str]]:
        return [
            (event.counters.updates, event.message)
            for event in recorder.of(Noticed)
            if event.kind == "over-fitting"
        ]

    whole = fit("whole", stop_after())
    ((at, text),) = reports(whole)
    assert (
        "over the last 8 evaluations, val_loss has risen by more than it varies by itself" in text
    )
    assert "it was best at update" in text
    evaluated = whole.of(Evaluated)
    gaps = {event.counters.updates: event.metrics["overfit_gap"] for event in evaluated}
    for event in evaluated:
        metrics = event.metrics
        assert metrics["overfit_gap"] == metrics["val_loss"] - metrics["val_loss_train"]
    assert gaps[100] > gaps[5] + 1
    assert evaluated[-1].metrics["overfit_trend"] > 0
    # Stopped after the report, it is not made again; stopped before it, it comes where it would have.
    for stop, expected in ((at + 2, [(at, text)]), (at - 2, [(at, text)])):
        name = f"stopped-{stop}"
        first, second = fit(name, stop_after(stop)), fit(name, stop_after())
        assert reports(first) + reports(second) == expected
