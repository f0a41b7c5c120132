"""Every shipped experiment of today's recipes, expanded: updates and items worked out by hand.

They ask the questions of the notebook this laboratory goes on from, with equal items where it had
nearly equal ones. `test_notebook` has the original runs.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from jobs.sweeps.plan import Plan, plan_sweep
from presets.catalogue import Catalogue
from presets.experiment_files import ExperimentFiles

LRS = ("lr3e-4", "lr3e-3", "lr3e-5", "lr1.2e-3", "lr1e-4")
TEN_K = (10_000, 320_000)


def batches(*updates: int, items: int) -> dict[str, tuple[int, int]]:
    names = ("baseline", "batch2x", "batch4x", "batch8x")
    return {name: (count, items) for name, count in zip(names, updates, strict=True)}


EXPECTED: dict[str, dict[str, tuple[int, int]]] = {
    "audio-unet-10k": batches(10_000, 5_000, 2_500, 1_250, items=320_000),
    "audio-unet-25k": batches(25_000, 12_500, 6_250, 3_125, items=800_000),
    "audio-unet-50k": batches(50_000, 25_000, 12_500, 6_250, items=1_600_000),
    "segment-length": {"baseline": TEN_K, "segment2x": (5_000, 160_000)},
    "hybrid-10k": batches(10_000, 5_000, 2_500, 1_250, items=320_000),
    "hybrid-cosine": batches(10_000, 5_000, 2_500, 1_250, items=320_000),
    "hybrid-lr": dict.fromkeys(LRS, TEN_K),
    "hybrid-gamma": dict.fromkeys(
        ("gamma0.995", "gamma0.999", "gamma0.9995", "gamma0.9998"), TEN_K
    ),
    "hybrid-prediction": dict.fromkeys(("clean", "difference"), TEN_K),
    "precision": dict.fromkeys(("fp32", "tf32", "fp16", "bf16"), TEN_K),
    "cudnn-benchmark": dict.fromkeys(("off", "on"), TEN_K),
    "intermediate-channels": dict.fromkeys(("one", "eight"), TEN_K),
    "best-v2": {"best": (25_000, 1_600_000)},
    "demo-batch": {"baseline": (320, 1_280), "batch2x": (160, 1_280)},
    "peers": dict.fromkeys(("audio-unet", "conv-tasnet", "hybrid-demucs"), (50_000, 800_000)),
}
# What a speed test, a single run and a demonstration of minutes have; three where something is decided.
SEEDS = {"cudnn-benchmark": {0}, "best-v2": {0}, "demo-batch": {0, 1}}


# Of the notebook, and on the clock of tasks that have tests of their own.
ELSEWHERE = ("notebook/", "ssl/", "voice/")


def plan_of(name: str) -> Plan:
    return plan_sweep(*ExperimentFiles().read(name), Catalogue())


def test_every_shipped_experiment_is_in_the_table() -> None:
    found = [info for info in ExperimentFiles().list() if info.origin == "shipped"]
    assert [info.name for info in found if info.problem or not info.description] == []
    names = {info.name for info in found}
    assert {name for name in names if not name.startswith(ELSEWHERE)} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_updates_and_samples_are_those_worked_out_by_hand(name: str) -> None:
    runs = plan_of(name).runs
    for run in runs:
        assert (run.updates, run.items) == EXPECTED[name][run.variant]
        assert run.audio_seconds == run.items * run.config.segment_s
    seeds = {run.seed for run in runs}
    assert seeds == SEEDS.get(name, {0, 1, 2})
    assert len(runs) == len(EXPECTED[name]) * len(seeds)


@pytest.mark.parametrize("name", EXPECTED)
def test_only_the_decays_known_to_be_too_fast_are_warned_about(name: str) -> None:
    warned = {run.variant for run in plan_of(name).runs if run.warnings}
    assert warned == ({"gamma0.995", "gamma0.999"} if name == "hybrid-gamma" else set())


def test_scaled_batches_average_over_the_same_data() -> None:
    scaled = plan_of("audio-unet-10k").runs[3].config
    assert scaled.batch.items == 256
    assert (str(scaled.ema.per), str(scaled.ema.restart_at)) == ("32 items", "64000 items")
    assert str(scaled.validation.every) == "32000 items"


def test_settings_of_the_families() -> None:
    rates = [run.config.optimizer.lr for run in plan_of("hybrid-lr").runs]
    assert rates == [3e-4, 3e-3, 3e-5, 1.2e-3, 1e-4] * 3
    best = plan_of("best-v2").runs[0].config
    assert (best.batch.items, best.batch.micro_batch, best.optimizer.lr) == (64, 32, 3e-3)
    assert {run.config.schedule.kind for run in plan_of("hybrid-cosine").runs} == {"cosine"}
    links = [run.config.model for run in plan_of("intermediate-channels").runs[:2]]
    assert [getattr(model, "intermediate_channels", None) for model in links] == [1, 8]


def test_the_experiment_of_the_docs_is_one(repository: Path) -> None:
    text = (repository / "examples/experiments/learning-rate.toml").read_text()
    runs = plan_sweep("learning-rate", tomllib.loads(text), Catalogue()).runs
    assert len(runs) == 2 * 3 * 3
    assert {run.items for run in runs} == {400 * 8}
