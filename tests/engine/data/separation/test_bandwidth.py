"""Bandwidth items: clean targets, narrow inputs, rates by index or by draw."""

from __future__ import annotations

import pickle
from collections.abc import Callable

import numpy as np
import pytest

from engine.config.errors import DataError
from engine.config.schema import RunConfig
from engine.data.kinds import open_dataset
from engine.data.separation.bandwidth import BandwidthDataset, detour

MakeConfig = Callable[..., RunConfig]
WriteAudio = Callable[..., np.ndarray]


def test_training_targets_are_crops_of_the_file(
    make_config: MakeConfig, write_audio: WriteAudio
) -> None:
    clean = write_audio("train/a.wav", frames=4000)
    dataset = open_dataset(make_config("bandwidth"), "train")
    assert len(dataset) == 5
    item = dataset.item(2, 3)
    assert item.mix_CT.shape == (1, 800)
    assert item.target_SCT.shape == (1, 1, 800)
    assert item.mix_CT.dtype == item.target_SCT.dtype == np.float32
    windows = np.lib.stride_tricks.sliding_window_view(clean[0], 800)
    assert (windows == item.target_SCT[0, 0]).all(axis=1).sum() == 1


def test_the_input_is_the_detour_of_the_whole_file(
    make_config: MakeConfig, write_audio: WriteAudio
) -> None:
    clean = write_audio("valid/a.wav", frames=6001)
    config = make_config("bandwidth", validation={"segment_s": 0.25}, input_rates_hz=[2000])
    item = open_dataset(config, "valid").item(0, 0)
    whole = detour(clean, 8000, low_hz=2000)
    assert whole.shape == clean.shape
    start = (6001 - 2000) // 2
    np.testing.assert_array_equal(item.target_SCT[0], clean[:, start : start + 2000])
    spectrum = np.abs(np.fft.rfft(item.mix_CT[0] * np.hanning(2000)))
    assert spectrum[300:].max() < 0.01 * spectrum[:200].max()
    np.testing.assert_allclose(item.mix_CT, whole[:, start : start + 2000], atol=1e-6)


@pytest.mark.parametrize("rate", [2000, 3000, 3675])
def test_an_input_is_the_same_wherever_its_crop_begins(
    rate: int, make_config: MakeConfig, write_audio: WriteAudio
) -> None:
    clean = write_audio("train/a.wav", frames=5000)
    whole = detour(clean, 8000, low_hz=rate)
    dataset = open_dataset(make_config("bandwidth", input_rates_hz=[rate]), "train")
    windows = np.lib.stride_tricks.sliding_window_view(clean[0], 800)
    for epoch in range(5):
        item = dataset.item(epoch, 0)
        (start,) = np.flatnonzero((windows == item.target_SCT[0, 0]).all(axis=1))
        np.testing.assert_allclose(item.mix_CT, whole[:, start : start + 800], atol=1e-6)


def test_validation_rates_go_round_by_index(
    make_config: MakeConfig, write_audio: WriteAudio
) -> None:
    for number in range(5):
        write_audio(f"valid/{number}.wav")
    dataset = open_dataset(make_config("bandwidth", input_rates_hz=[2000, 4000, 8000]), "valid")
    assert isinstance(dataset, BandwidthDataset)
    assert [dataset.input_rate_hz(0, i) for i in range(5)] == [2000, 4000, 8000, 2000, 4000]
    same = dataset.item(0, 2)
    np.testing.assert_array_equal(same.mix_CT, same.target_SCT[0])


def test_training_draws_every_rate(make_config: MakeConfig, write_audio: WriteAudio) -> None:
    write_audio("train/a.wav")
    dataset = open_dataset(make_config("bandwidth"), "train")
    assert isinstance(dataset, BandwidthDataset)
    rates = [dataset.input_rate_hz(epoch, 0) for epoch in range(100)]
    assert 30 < rates.count(2000) < 70
    assert set(rates) == {2000, 4000}


def test_items_are_pure_functions_of_their_place(
    make_config: MakeConfig, write_audio: WriteAudio
) -> None:
    write_audio("train/a.wav", frames=4000)
    config = make_config("bandwidth")
    first, second = open_dataset(config, "train"), open_dataset(config, "train")
    for index in (4, 0, 2, 4):
        first.item(0, index)
    sent = pickle.loads(pickle.dumps(second))
    for dataset in (second, sent):
        np.testing.assert_array_equal(first.item(1, 2).mix_CT, dataset.item(1, 2).mix_CT)
    assert not np.array_equal(first.item(1, 2).target_SCT, first.item(2, 2).target_SCT)


def test_a_short_file_is_padded_on_both_sides(
    make_config: MakeConfig, write_audio: WriteAudio
) -> None:
    clean = write_audio("train/a.wav", frames=300)
    item = open_dataset(make_config("bandwidth"), "train").item(0, 0)
    np.testing.assert_array_equal(item.target_SCT[0, :, 250:550], clean)
    for samples in (item.target_SCT[0], item.mix_CT):
        assert not samples[:, :250].any()
        assert not samples[:, 550:].any()


def test_a_file_of_one_sample(make_config: MakeConfig, write_audio: WriteAudio) -> None:
    write_audio("valid/a.wav", samples=np.array([0.5]))
    item = open_dataset(make_config("bandwidth"), "valid").item(0, 0)
    assert item.mix_CT.shape == (1, 1)
    assert np.isfinite(item.mix_CT).all()


def test_stereo_files_for_a_stereo_model(make_config: MakeConfig, write_audio: WriteAudio) -> None:
    write_audio("train/a.wav", channels=2)
    item = open_dataset(make_config("bandwidth", channels=2), "train").item(0, 0)
    assert item.mix_CT.shape == (2, 800)
    assert item.target_SCT.shape == (1, 2, 800)


def test_files_at_another_rate_are_resampled(
    make_config: MakeConfig, write_audio: WriteAudio
) -> None:
    write_audio("train/a.flac", frames=4410, rate_hz=44100)
    dataset = open_dataset(make_config("bandwidth", segment_s=0.05), "train")
    assert len(dataset) == 2
    assert dataset.item(0, 1).mix_CT.shape == (1, 400)


def test_an_input_rate_without_a_filter_is_refused(
    make_config: MakeConfig, write_audio: WriteAudio
) -> None:
    write_audio("train/a.wav", rate_hz=48000)
    config = make_config("bandwidth", rate_hz=48000, input_rates_hz=[44101])
    with pytest.raises(
        DataError, match=r"data\.input_rates_hz: can't resample from 48000 to 44101"
    ):
        open_dataset(config, "train")
