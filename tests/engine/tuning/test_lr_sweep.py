"""The updates of a range test: those of the run's own start, with nothing of its schedule or average."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.config.loading import load_config
from engine.data.synthetic import write_dataset
from engine.events import PointsRecorded
from engine.recipes.registry import open_recipe
from engine.training.trainer import Trainer
from engine.tuning.lr_sweep import config_of_test, sweep


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audio")
    write_dataset(folder, tracks=2, duration_s=2.0, rate_hz=8_000)
    return folder


def values_of(audio: Path, **sections: Any) -> dict[str, Any]:
    return {
        "data": {
            "kind": "bandwidth", "train": str(audio / "train"), "valid": str(audio / "valid"),
            "rate_hz": 8000, "segment_s": 0.25, "input_rates_hz": [2000],
        },
        "model": {"kind": "audio_unet", "width": 4, "strides": [2, 4], "residual_units": 1},
        "loss": {"windows": [256, 64]},
        "batch": {"items": 4, "micro_batch": 2},
        "optimizer": {"lr": 1e-3},
        "schedule": {"length": "6 updates"},
        "precision": {"device": "cpu", "threads": 1},
        "validation": {"every": "99 updates", "max_items": 1},
        **sections,
    }  # fmt: skip


def losses_of(values: dict[str, Any], lrs: list[float], folder: Path) -> list[float]:
    folder.mkdir()
    config = config_of_test(load_config(values))
    points = sweep(config, lrs, device="cpu", folder=folder, needs={}, emit=lambda event: None)
    return [point.loss for point in points]


class Curves:
    def __init__(self) -> None:
        self.loss: list[float] = []

    def on_event(self, event: Any) -> None:
        if isinstance(event, PointsRecorded):
            self.loss += event.series["loss"].tolist()


class Never:
    def stop_reason(self) -> str | None:
        return None


def test_at_a_constant_rate_the_losses_are_those_of_a_run_bit_for_bit(audio, tmp_path):
    config, curves = load_config(values_of(audio)), Curves()
    Trainer(
        config, open_recipe(config), folder=tmp_path / "run", observers=[curves], control=Never()
    ).fit()
    assert losses_of(values_of(audio), [1e-3] * 6, tmp_path / "test") == curves.loss


def test_schedule_warm_up_average_and_stop_rules_do_not_matter(audio, tmp_path):
    lrs = np.geomspace(1e-5, 1e-2, 5).tolist()
    plain = losses_of(values_of(audio), lrs, tmp_path / "plain")
    other = values_of(
        audio, ema={"enabled": True, "decay": 0.9}, optimizer={"lr": 0.5},
        schedule={"length": "9 updates", "kind": "cosine", "warmup": "5 updates"},
        stop_when={"metric": "si_sdr_ema", "target": 3, "reference": "night-1"},
    )  # fmt: skip
    assert losses_of(other, lrs, tmp_path / "other") == plain
    assert losses_of(values_of(audio, seed=1), lrs, tmp_path / "seed") != plain
    clipped = values_of(audio, optimizer={"clip_norm": 1e-3, "eps": 0.1})
    free = values_of(audio, optimizer={"clip_norm": 0, "eps": 0.1})
    assert losses_of(clipped, lrs, tmp_path / "clip") != losses_of(free, lrs, tmp_path / "free")


def test_a_rate_at_which_nothing_is_finite_ends_the_test_early(audio, tmp_path):
    values = values_of(audio, optimizer={"clip_norm": 0})
    losses = losses_of(values, [1e-3] * 20 + [1e25] * 40, tmp_path / "wild")
    assert np.isfinite(losses[:20]).all()
    assert not np.isfinite(losses[-1]) or losses[-1] > 10 * losses[0]
    assert len(losses) < 60
