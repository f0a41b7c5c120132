"""The original runs of the notebook, line by line: what each of them trained, worked out by hand.

The notebook's loop was `for i in range(0, N + 1, k)`, with k micro-batches of 32 segments of 2 s in each
pass, so a run of N counts made N / k + 1 updates. Rates and averages moved on by update: the learning
rate of update u was lr * gamma ** (u - 1), and the average restarted after the pass with i = 2000,
which is update 2000 / k + 1.

The age of the average: n updates after the restart its decay is min(0.999, (1 + n) / (10 + n)), and an
average whose weights are A updates old (their mean) is decay * (A + 1) old one update later. With
(n + 1) / (n + 10) that gives A = (n + 1) / 10. Both decays are equal at n = 8990, where A = 899.1; from
there on A = 999 - 99.9 * 0.999 ** (n - 8990). At the end of a run n = (N - 2000) / k.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import pytest

from engine.config.losses import SpectralLoss
from engine.config.sections import EmaConfig
from engine.training.schedules import ema_decay, ema_restart, lr_factor
from jobs.sweeps.plan import Plan, plan_sweep
from models.configs import AudioUNetConfig, HybridConfig
from presets.catalogue import Catalogue
from presets.experiment_files import ExperimentFiles


@dataclass(frozen=True)
class Line:
    """One run of the notebook.

    `items` are those of an update, `restart` is the update after which the average restarts, `age`
    how many updates old it is at the end, `first_lr` and `last_lr` are those of the first and the last
    update.
    """

    updates: int
    items: int
    restart: int
    age: float
    first_lr: float = 3e-4
    last_lr: float = 3e-4
    gamma: float | None = None
    eps: float = 1e-8


def batches(*rows: tuple[int, float], last_lr: float = 3e-4) -> dict[str, Line]:
    """Return the four batch sizes, given updates and final age of each: one starts from 1e-8 / k."""
    fixed = (("baseline", 32, 2001, 1e-8), ("batch2x", 64, 1001, 5e-9),
             ("batch4x", 128, 501, 2.5e-9), ("batch8x", 256, 251, 1.25e-9))  # fmt: skip
    return {
        name: Line(updates, items, restart, age, last_lr=last_lr, eps=eps)
        for (name, items, restart, eps), (updates, age) in zip(fixed, rows, strict=True)
    }


def decayed(gamma: float, lr: float, *, by: float) -> Line:
    """Return a run of 10 000 counts and as many updates, whose rate is multiplied by `by` in all."""
    return Line(10_001, 32, 2001, 800.1, first_lr=lr, last_lr=lr * by, gamma=gamma)


# n = 8000, 4000, 2000, 1000: (n + 1) / 10.
TEN_K = ((10_001, 800.1), (5_001, 400.1), (2_501, 200.1), (1_251, 100.1))
# n = 23000: 99.9 * 8.2e-7 below 999; n = 11500: 99.9 * 0.081166 = 8.1085 below; n = 5750, 2875.
TWENTY_FIVE_K = ((25_001, 998.9999), (12_501, 990.8915), (6_251, 575.1), (3_126, 287.6))
# n = 48000: 999; n = 24000: 99.9 * 3.0e-7 below; n = 12000: 99.9 * 0.049218 = 4.9168 below; n = 6000.
FIFTY_K = ((50_001, 999.0), (25_001, 999.0), (12_501, 994.0832), (6_251, 600.1))
# ln 0.9995 = -5.001250e-4, so 0.9995 ** 10000 = exp(-5.00125).
BY_9995 = 6.729527e-3
# ln 0.9998 = -2.000200e-4: exp(-2.000200) after 10000, exp(-10.001000) after 50000.
BY_9998, BY_9998_IN_50K = 0.1353082, 4.535455e-5

RATES = {"lr3e-4": 3e-4, "lr3e-3": 3e-3, "lr3e-5": 3e-5, "lr1.2e-3": 1.2e-3, "lr1e-4": 1e-4}
LATER_RATES = {"lr3e-3": 3e-3, "lr0.03": 3e-2, "lr3e-4": 3e-4, "lr9e-3": 9e-3, "lr1e-3": 1e-3}

TABLE: dict[str, dict[str, Line]] = {
    "audio-unet-10k": batches(*TEN_K),
    "audio-unet-25k": batches(*TWENTY_FIVE_K),
    "audio-unet-50k": batches(*FIFTY_K),
    # A pass took two micro-batches of 16 segments of 4 s, and two counts.
    "segment-length": {
        "baseline": Line(10_001, 32, 2001, 800.1),
        "segment2x": Line(5_001, 32, 1001, 400.1, eps=5e-9),
    },
    "hybrid-10k": batches(*TEN_K),
    # Half a cosine over the updates of the run: 0 at the last one.
    "hybrid-cosine": batches(*TEN_K, last_lr=0.0),
    # ln 0.995 = -5.012542e-3: exp(-50.12542); ln 0.999 = -1.000500e-3: exp(-10.00500).
    "hybrid-gamma": {
        "gamma0.995": decayed(0.995, 3e-4, by=1.701404e-22),
        "gamma0.999": decayed(0.999, 3e-4, by=4.517335e-5),
        "gamma0.9995": decayed(0.9995, 3e-4, by=BY_9995),
        "gamma0.9998": decayed(0.9998, 3e-4, by=BY_9998),
    },
    "hybrid-lr": {name: decayed(0.9995, lr, by=BY_9995) for name, lr in RATES.items()},
    "mixed-precision": dict.fromkeys(("fp32", "amp"), decayed(0.9995, 3e-3, by=BY_9995)),
    "cudnn-benchmark": dict.fromkeys(("off", "on"), decayed(0.9995, 3e-3, by=BY_9995)),
    "intermediate-channels": dict.fromkeys(("one", "eight"), decayed(0.9995, 3e-3, by=BY_9995)),
    # A pass took two micro-batches, but one count: n = 48000.
    "best-v2": {
        "best": Line(
            50_001, 64, 2001, 999.0, first_lr=3e-3, last_lr=3e-3 * BY_9998_IN_50K, gamma=0.9998, eps=5e-9
        )
    },
    # The same in the later notes, where the gradients of the two were averaged: eps stays.
    "difference-lr": {
        name: Line(10_001, 64, 2001, 800.1, first_lr=lr, last_lr=lr * BY_9998, gamma=0.9998)
        for name, lr in LATER_RATES.items()
    },
}  # fmt: skip
LINES = [(name, variant) for name, lines in TABLE.items() for variant in lines]
WITH_CUDNN_BENCHMARK = {
    ("cudnn-benchmark", "on"), ("best-v2", "best"),
    *((name, variant) for name, variant in LINES if name in ("intermediate-channels", "difference-lr")),
}  # fmt: skip


@cache
def plan_of(name: str) -> Plan:
    return plan_sweep(*ExperimentFiles().read(f"notebook/{name}"), Catalogue())


@cache
def final_age(config: EmaConfig, updates: int, *, size) -> float:
    """Return the mean age of the average after `updates` updates, as the trainer moves it on."""
    restart, age = ema_restart(config, size), 0.0
    for update in range(1, updates + 1):
        age = 0.0 if update == restart else ema_decay(config, update, size=size) * (age + 1)
    return age


def test_every_line_of_the_notebook_is_an_experiment() -> None:
    infos = [info for info in ExperimentFiles().list() if info.origin == "shipped"]
    names = {info.name for info in infos if info.name.startswith("notebook/") and info.description}
    assert names == {f"notebook/{name}" for name in TABLE}
    for name, lines in TABLE.items():
        seeds = (0, 1) if name == "difference-lr" else (0,)
        found = [(run.variant, run.seed) for run in plan_of(name).runs]
        assert found == [(variant, seed) for seed in seeds for variant in lines]


@pytest.mark.parametrize(("name", "variant"), LINES)
def test_a_line_trains_what_the_notebook_trained(name: str, variant: str) -> None:
    line = TABLE[name][variant]
    for run in plan_of(name).runs:
        if run.variant != variant:
            continue
        config, size = run.config, run.config.update_size
        assert (run.updates, run.items) == (line.updates, line.updates * line.items)
        assert run.audio_seconds == run.items * (4.0 if variant == "segment2x" else 2.0)
        rates = [
            config.optimizer.lr * lr_factor(config.schedule, size.after(done), size=size)
            for done in (0, run.updates - 1)
        ]
        assert rates == pytest.approx(
            [line.first_lr, line.last_lr], rel=1e-5, abs=1e-12 * (line.gamma is None)
        )
        assert (config.schedule.kind == "exponential") == (line.gamma is not None)
        if line.gamma is not None:
            assert config.schedule.gamma == line.gamma
        assert config.optimizer.eps == line.eps
        assert ema_restart(config.ema, size) == line.restart
        assert final_age(config.ema, run.updates, size=size) == pytest.approx(line.age, abs=1e-3)


@pytest.mark.parametrize(("name", "variant"), LINES)
def test_a_line_has_the_settings_of_the_notebook(name: str, variant: str) -> None:
    run = next(run for run in plan_of(name).runs if run.variant == variant)
    config, later = run.config, name == "difference-lr"
    assert isinstance(config.loss, SpectralLoss)
    assert (config.loss.reduction, config.loss.windows) == (
        "sum",
        (2048, 1024, 512, 256, 128, 64, 32),
    )
    assert config.schedule.warmup is None
    assert (config.optimizer.clip_norm, config.optimizer.weight_decay) == (1.0 * later, 0.01)
    assert config.precision.cudnn_benchmark == ((name, variant) in WITH_CUDNN_BENCHMARK)
    assert config.precision.dtype == ("fp16" if variant == "amp" else "fp32")
    assert (config.precision.tf32, config.precision.compile) == (False, False)
    assert config.batch.micro_batch == (16 if variant == "segment2x" else 32)
    model = config.model
    assert isinstance(model, AudioUNetConfig | HybridConfig)
    assert (model.norm, model.prediction) == ("weight", "difference" if later else "clean")
    if isinstance(model, HybridConfig):
        assert (model.width, model.bins) == (8, "last:1088")
        assert model.intermediate_channels == (8 if variant == "eight" else 1)
    else:
        assert model.width == 16
    assert isinstance(model, HybridConfig) == (
        not name.startswith("audio-unet") and name not in ("segment-length", "difference-lr")
    )


def test_curves_of_the_batch_sizes_have_points_at_the_same_counts() -> None:
    for name in ("audio-unet-10k", "hybrid-cosine"):
        every = {str(run.config.validation.every) for run in plan_of(name).runs}
        assert every == {"32000 items"}


def test_the_decays_that_were_too_fast_are_warned_about() -> None:
    """best_v2 is one: its rate was below a thousandth after ln 1000 / 2.0002e-4 = 34 535 updates."""
    warned = {(name, run.variant) for name in TABLE for run in plan_of(name).runs if run.warnings}
    too_fast = {("hybrid-gamma", "gamma0.995"), ("hybrid-gamma", "gamma0.999")}
    assert warned == {*too_fast, ("best-v2", "best")}
