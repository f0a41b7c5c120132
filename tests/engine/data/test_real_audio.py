"""The datasets on real audio: speech, running taps and songs, read as they come."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.batching.items import ItemDraw, MicroBatch
from engine.config.loading import load_config
from engine.data.kinds import open_dataset
from engine.data.separation.dataset import AudioItem, fetch

SharedData = Callable[[str], Path]


def si_sdr_db(est_CT: np.ndarray, ref_CT: np.ndarray) -> float:
    est, ref = (x.astype(np.float64).ravel() - x.mean() for x in (est_CT, ref_CT))
    target = ref * (est @ ref) / (ref @ ref)
    return float(10 * np.log10((target @ target) / ((est - target) @ (est - target))))


def level_db(item: AudioItem) -> float:
    noise = (item.mix_CT - item.target_SCT[0]).astype(np.float64)
    return float(
        10 * np.log10(np.mean(item.target_SCT.astype(np.float64) ** 2) / np.mean(noise**2))
    )


def settings(kind: str, train: Path, valid: Path, **more: Any) -> Any:
    data = {"kind": kind, "train": str(train), "valid": str(valid), **more}
    return load_config({"data": data})


def test_bandwidth_of_speech(shared_data: SharedData) -> None:
    vctk = shared_data("vctk")
    config = settings("bandwidth", vctk / "train", vctk / "test")
    train, valid = open_dataset(config, "train"), open_dataset(config, "valid")
    assert len(train) == 8
    assert len(valid) == 4
    assert 1.8 < valid.durations_s().min() < valid.durations_s().max() < 4.3
    levels = [
        si_sdr_db(item.mix_CT, item.target_SCT[0]) for item in map(partial_item(valid), range(4))
    ]
    assert all(5 < level < 60 for level in levels)
    batch = fetch(train, MicroBatch(tuple(ItemDraw(0, index) for index in range(8))))
    assert batch.tensors["mix"].shape == (8, 1, 96_000)


def partial_item(dataset: Any) -> Callable[[int], AudioItem]:
    return lambda index: dataset.item(0, index)


def test_bandwidth_moves_nothing_in_time(shared_data: SharedData) -> None:
    vctk = shared_data("vctk")
    config = settings("bandwidth", vctk / "train", vctk / "test", input_rates_hz=[8000])
    item = open_dataset(config, "valid").item(0, 0)
    shifts = range(-20, 21)
    target = item.target_SCT[0, 0, 1000:-1000]
    match = [float(item.mix_CT[0, 1000 + s : len(target) + 1000 + s] @ target) for s in shifts]
    assert shifts[int(np.argmax(match))] == 0


def test_denoising_of_speech_with_noise_at_another_rate(shared_data: SharedData) -> None:
    vctk, noise = shared_data("vctk"), shared_data("noise")
    config = settings("denoise", vctk / "train", vctk / "test", noise=str(noise))
    train, valid = open_dataset(config, "train"), open_dataset(config, "valid")
    for index in range(4):
        assert -0.1 < level_db(valid.item(0, index)) < 15.1
    for index in range(8):
        item = train.item(0, index)
        assert item.mix_CT.shape == (1, 96_000)
        assert np.isfinite(item.mix_CT).all()


@pytest.mark.parametrize("mixture", ["", "mixture"])
def test_vocals_of_songs(mixture: str, shared_data: SharedData) -> None:
    stems = shared_data("stems")
    config = settings(
        "stems", stems / "train", stems / "test", rate_hz=44_100, channels=2, mixture=mixture
    )
    train, valid = open_dataset(config, "train"), open_dataset(config, "valid")
    assert len(train) == 15
    assert valid.item(0, 0).mix_CT.shape == (2, 441_000)
    assert -20 < level_db(valid.item(0, 0)) < 5
    assert train.item(0, 7).target_SCT.shape == (1, 2, 88_200)


def test_digits_shorter_than_a_segment(shared_data: SharedData) -> None:
    speaker = sorted(path for path in shared_data("digits").iterdir() if path.is_dir())[0]
    config = settings("bandwidth", speaker, speaker, rate_hz=8000, input_rates_hz=[4000])
    dataset = open_dataset(config, "train")
    assert len(dataset) == 500
    item = dataset.item(0, 0)
    assert item.mix_CT.shape == (1, 16_000)
    assert not item.target_SCT[0, 0, 0]
    assert not item.target_SCT[0, 0, -1]
