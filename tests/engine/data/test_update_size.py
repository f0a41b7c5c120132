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
from engine.config.overrides import config_with
from engine.config.schema import RunConfig
from engine.data.update_size import (
    counts_epochs,
    mean_update_size,
    planned_size,
    schedule_size,
)
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
    assert mean_update_size(segments(items=6, micro_batch=4)) == UpdateSize(
        2, 6, audio_seconds=12.0
    )
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
    # Buckets by both depend on the number of tokens, which is estimated.
    assert found.epochs == pytest.approx(plan.mean_size.epochs)


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


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    """Files of odd lengths and another rate; tracks of three stems; speakers of two files each."""
    lengths = (300, 800, 2_399, 2_400, 7_201)
    for split in ("train", "valid"):
        for number, frames in enumerate(lengths):
            rate_hz = 11_025 if number == 4 else 8_000
            signal = np.full(frames, 0.1)
            for name in (f"clean/{split}/{number}", f"noise/{split}/{number}"):
                path = tmp_path / f"{name}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, signal, rate_hz)
            for stem in ("vocals", "drums", "bass"):
                path = tmp_path / f"stems/{split}/{number}/{stem}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, signal, rate_hz)
            path = tmp_path / f"speakers/{split}/s{number % 2}/{number}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, signal, rate_hz)
    return tmp_path


KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "bandwidth": ("clean", {"input_rates_hz": [4_000]}),
    "denoise": ("clean", {"noise": "noise/train", "noise_valid": "noise/valid"}),
    "stems": ("stems", {"targets": ["vocals", "bass"], "others": ["drums"]}),
    "speakers": ("speakers", {}),
}


@pytest.mark.parametrize(
    ("kind", "short_files"),
    [("speakers", "pad"), *((k, s) for k in KINDS if k != "speakers" for s in ("pad", "whole"))],
)
def test_epochs_of_audio_are_those_of_the_dataset(audio: Path, kind: str, short_files: str) -> None:
    """A segment is 800 samples: 1 + 1 + 2 + 3 items, and 6 of the file at 11 025 Hz."""
    folder, settings = KINDS[kind]
    paths = {name: str(audio / value) for name, value in settings.items() if "noise" in name}
    data = {
        "kind": kind, "train": str(audio / folder / "train"), "valid": str(audio / folder / "valid"),
        "rate_hz": 8_000, "segment_s": 0.1, "resample": "any", "short_files": short_files,
        **settings, **paths,
    }  # fmt: skip
    config = load_config({"data": data, "batch": {"items": 5}, "ema": {"per": "1 epochs"}})
    recipe = open_recipe(config)
    sizes = recipe.sizes("train")
    assert len(sizes) == 1 + 1 + 2 + 3 + 6

    assert mean_update_size(config) == open_plan(config, sizes, manifest="").mean_size
    assert mean_update_size(config).epochs == 5 / 13


def test_data_are_read_for_epochs_alone(tmp_path: Path, audio: Path) -> None:
    """Without a span in epochs, segments are sized without their files."""
    assert mean_update_size(segments(items=6)).epochs == 0
    assert mean_update_size(segments(seconds=20.0)).epochs == 0
    assert schedule_size(segments(items=6)).items == 6
    there = config_with(
        segments(items=6).to_dict(),
        [
            f"data.train={audio}/stems/train", "data.segment_s=0.1", "data.resample=any",
            'data.targets=["vocals"]', 'data.others=["drums", "bass"]',
        ],
    )  # fmt: skip
    assert mean_update_size(there).epochs == 0
    assert mean_update_size(there, epochs=True).epochs == 6 / 13


@pytest.mark.parametrize(
    "section",
    [
        {"schedule": {"length": "3 epochs"}}, {"schedule": {"warmup": "3 epochs"}},
        {"schedule": {"kind": "multi_step", "milestones": ["5 updates", "3 epochs"]}},
        {"ema": {"per": "3 epochs"}}, {"validation": {"every": "3 epochs"}},
        {"checkpoint": {"every": "3 epochs"}}, {"logging": {"every": "3 epochs"}},
    ],
)  # fmt: skip
def test_epochs_of_missing_data_are_unknown(section: dict[str, Any]) -> None:
    config = load_config({"data": {"kind": "bandwidth", "train": "a", "valid": "b"}, **section})
    assert counts_epochs(config)
    for size_of in (planned_size, mean_update_size, schedule_size):
        with pytest.raises(DataError, match=r"data\.train"):
            size_of(config)


def test_batches_that_do_not_fit_are_refused(manifest: Path) -> None:
    with pytest.raises(PlanError, match=r"batch\.seconds = 5 is too small"):
        mean_update_size(speech(manifest, seconds=5.0))
