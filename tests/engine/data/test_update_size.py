"""What an update comes to before a run: of segments by arithmetic, of utterances by reading them."""

from __future__ import annotations

import json
import os
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from engine.batching.open_plan import PlanError, open_plan
from engine.config.counters import UpdateSize
from engine.config.errors import DataError
from engine.config.loading import load_config
from engine.config.schema import RunConfig
from engine.data.update_size import mean_update_size, planned_size
from engine.recipes.registry import open_recipe

DURATIONS_S = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Eight utterances of 0.5 to 4 s, 18 s in all, and one that is too long."""
    soundfile.write(tmp_path / "a.wav", np.full(40_000, 0.1), 4_000)
    rows = [{"path": "a.wav", "duration": s, "text": "ab" * round(4 * s)} for s in DURATIONS_S]
    rows.append({"path": "a.wav", "duration": 10.0, "text": "a"})
    path = tmp_path / "m.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def speech(manifest: Path, length: str = "10 updates", **batch: Any) -> RunConfig:
    data = {
        "kind": "speech", "train": str(manifest), "valid": str(manifest), "rate_hz": 4_000,
        "max_s": 5.0,
    }  # fmt: skip
    return load_config(
        {
            "data": data, "model": {"kind": "conformer_rnnt"}, "loss": {"kind": "rnnt"},
            "batch": batch, "schedule": {"length": length},
        }
    )  # fmt: skip


def segments(**batch: Any) -> RunConfig:
    data = {"kind": "stems", "train": "a", "valid": "b", "rate_hz": 8_000, "segment_s": 2.0}
    return load_config({"data": data, "batch": batch})


def test_segments_have_one_length() -> None:
    assert mean_update_size(segments(items=6, micro_batch=4)) == UpdateSize(2, 6, 12.0)
    size = mean_update_size(segments(seconds=20.0, micro_batch=64))
    assert (size.items, size.audio_seconds) == (pytest.approx(10), pytest.approx(20))
    size = mean_update_size(segments(mode="duration", cap_s=8.0, micro_batch=64, accumulation=3))
    assert (size.micro_batches, size.items) == (pytest.approx(3), pytest.approx(12, rel=1e-3))


@pytest.mark.parametrize(
    "batch",
    [
        {"items": 4},
        {"seconds": 9.0},
        {"mode": "duration", "cap_s": 8.0},
        {"mode": "2D-bucketing", "cap_s": 8.0, "bins": 2, "token_bins": 2},
        {"mode": "fixed", "micro_batch": 2, "accumulation": 2},
    ],
)
def test_sizes_are_those_of_the_plan_of_the_run(manifest: Path, batch: dict[str, Any]) -> None:
    config = speech(manifest, **batch)
    recipe = open_recipe(config)
    plan = open_plan(config, recipe.sizes("train"), manifest=recipe.manifest("train"))
    found = mean_update_size(config)
    assert found.items == pytest.approx(plan.mean_size.items)
    assert found.audio_seconds == pytest.approx(plan.mean_size.audio_seconds)
    assert found.micro_batches == pytest.approx(plan.mean_size.micro_batches)


def test_a_changed_manifest_is_read_again(manifest: Path) -> None:
    before = mean_update_size(speech(manifest, items=4)).audio_seconds
    assert before == pytest.approx(9.0)
    lines = manifest.read_text().splitlines()
    manifest.write_text("\n".join(lines[4:8]))
    os.utime(manifest, ns=(1, 1))
    assert mean_update_size(speech(manifest, items=4)).audio_seconds == pytest.approx(13.0)


def test_without_the_data_items_are_known_and_seconds_are_not(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere.jsonl"
    size = planned_size(speech(nowhere, items=4))
    assert size.items == 4
    assert isnan(size.audio_seconds)
    for config in (speech(nowhere, seconds=9.0), speech(nowhere, "60 audio_seconds", items=4)):
        with pytest.raises(DataError, match=r"data\.train: .*can't be read"):
            planned_size(config)


def test_batches_that_do_not_fit_are_refused(manifest: Path) -> None:
    with pytest.raises(PlanError, match=r"batch\.seconds = 5 is too little"):
        mean_update_size(speech(manifest, seconds=5.0))
