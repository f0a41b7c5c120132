"""Denoising items: ratios that are kept, noise that is split between training and validation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from engine.batching.batch import Split
from engine.config.errors import DataError
from engine.config.schema import RunConfig
from engine.data.separation.dataset import AudioItem
from engine.data.separation.denoise import DenoiseDataset, noise_gain

MakeConfig = Callable[..., RunConfig]
WriteAudio = Callable[..., np.ndarray]


@pytest.fixture
def open_denoise(tmp_path: Path, make_config: MakeConfig) -> Callable[..., DenoiseDataset]:
    def open_it(split: Split, **settings: object) -> DenoiseDataset:
        return DenoiseDataset(
            make_config("denoise", **{"noise": tmp_path / "noise", **settings}), split
        )

    return open_it


OpenDenoise = Callable[..., DenoiseDataset]


def snr_db(item: AudioItem) -> float:
    noise = item.mix_CT - item.target_SCT[0]
    heard = np.abs(item.target_SCT[0]) > 0
    return float(
        10 * np.log10(np.mean(item.target_SCT[0][heard] ** 2) / np.mean(noise[heard] ** 2))
    )


def test_every_item_has_the_ratio_it_drew(
    open_denoise: OpenDenoise, write_audio: WriteAudio
) -> None:
    write_audio("train/a.wav", frames=8000, seed=1)
    write_audio("noise/n.wav", frames=9000, seed=2)
    dataset = open_denoise("train", snr_low_db=-5.0, snr_high_db=20.0)
    ratios = []
    for index in range(len(dataset)):
        ratios.append(dataset.noise_piece(0, index).snr_db)
        assert snr_db(dataset.item(0, index)) == pytest.approx(ratios[-1], abs=0.01)
    assert min(ratios) >= -5.0
    assert max(ratios) <= 20.0
    assert max(ratios) - min(ratios) > 5.0


def test_the_ratio_of_a_padded_item_counts_only_its_audio(
    open_denoise: OpenDenoise, write_audio: WriteAudio
) -> None:
    write_audio("train/a.wav", frames=200, seed=1)
    write_audio("noise/n.wav", frames=9000, seed=2)
    item = open_denoise("train", snr_low_db=6.0, snr_high_db=6.0).item(0, 0)
    assert snr_db(item) == pytest.approx(6.0, abs=0.01)
    assert np.abs(item.mix_CT[:, :300]).min() > 0
    assert not item.target_SCT[:, :, :300].any()


def test_noise_is_split_nine_to_one(open_denoise: OpenDenoise, write_audio: WriteAudio) -> None:
    """The noise tells its place by its sign: positive in the first 90 %, negative after."""
    write_audio("train/a.wav", frames=8000)
    write_audio("valid/a.wav", frames=8000)
    write_audio("noise/n.wav", samples=np.concatenate([np.full(9000, 0.1), np.full(1000, -0.1)]))
    train, valid = open_denoise("train"), open_denoise("valid")
    for epoch in range(20):
        item = train.item(epoch, 0)
        assert (item.mix_CT - item.target_SCT[0] > 0).all()
    item = valid.item(0, 0)
    assert (item.mix_CT - item.target_SCT[0] < 0).all()


def test_a_folder_of_its_own_gives_validation_all_its_noise(
    tmp_path: Path, open_denoise: OpenDenoise, write_audio: WriteAudio
) -> None:
    for name in ("train/a.wav", "valid/a.wav", "noise/n.wav"):
        write_audio(name, frames=2000)
    write_audio("other/m.wav", samples=np.full(50, -0.2))
    settings = {"noise_valid": tmp_path / "other"}
    train, valid = open_denoise("train", **settings), open_denoise("valid", **settings)
    assert [part.length for part in train._recordings] == [2000]
    assert [part.length for part in valid._recordings] == [50]
    item = valid.item(0, 0)
    assert (item.mix_CT - item.target_SCT[0] < 0).all()


def test_short_noise_is_looped(open_denoise: OpenDenoise, write_audio: WriteAudio) -> None:
    write_audio("train/a.wav", frames=800)
    write_audio("noise/n.wav", samples=np.arange(1, 11) / 10)
    dataset = open_denoise("train")
    item, piece = dataset.item(0, 0), dataset.noise_piece(0, 0)
    noise = (item.mix_CT - item.target_SCT[0])[0]
    expected = (np.arange(piece.start, piece.start + 800) % 9 + 1) / 10
    np.testing.assert_allclose(
        noise / noise.mean(), expected / expected.mean(), rtol=1e-4, atol=1e-5
    )


def test_validation_is_fixed_whatever_the_seed_and_fills_the_range(
    tmp_path: Path, make_config: MakeConfig, write_audio: WriteAudio
) -> None:
    for number in range(8):
        write_audio(f"valid/{number}.wav", seed=number)
    for name in ("noise/a.wav", "noise/b.wav"):
        write_audio(name, frames=5000)
    first, second = (
        DenoiseDataset(make_config("denoise", noise=tmp_path / "noise", seed=seed), "valid")
        for seed in (0, 1)
    )
    pieces = [first.noise_piece(0, index) for index in range(8)]
    assert pieces == [second.noise_piece(5, index) for index in range(8)]
    assert [piece.recording for piece in pieces] == [0, 1] * 4
    ratios = sorted(piece.snr_db for piece in pieces)
    assert ratios[0] < 3.0
    assert ratios[-1] > 12.0
    assert max(np.diff(ratios)) < 4.0
    np.testing.assert_array_equal(first.item(0, 3).mix_CT, second.item(9, 3).mix_CT)


def test_silence_gives_finite_items(open_denoise: OpenDenoise, write_audio: WriteAudio) -> None:
    write_audio("train/silent.wav", samples=np.zeros(800))
    noise = write_audio("noise/n.wav", frames=1000)
    item = open_denoise("train").item(0, 0)
    assert np.isfinite(item.mix_CT).all()
    assert np.abs(item.mix_CT).max() == pytest.approx(np.abs(noise).max(), rel=0.5)
    assert noise_gain(np.ones((1, 4)), np.zeros((1, 4)), snr_db=10.0) == 1.0


def test_noise_at_another_rate_and_stereo(
    open_denoise: OpenDenoise, write_audio: WriteAudio
) -> None:
    write_audio("train/a.wav", frames=1600)
    write_audio("noise/n.wav", frames=32_000, rate_hz=16_000, channels=2)
    item = open_denoise("train", snr_low_db=3.0, snr_high_db=3.0).item(0, 1)
    assert item.mix_CT.shape == (1, 800)
    assert snr_db(item) == pytest.approx(3.0, abs=0.01)


def test_problems_of_both_folders_come_together(
    open_denoise: OpenDenoise, write_audio: WriteAudio
) -> None:
    with pytest.raises(DataError) as caught:
        open_denoise("train")
    assert [problem.key for problem in caught.value.problems] == ["data.train", "data.noise"]


def test_noise_too_short_to_be_split(open_denoise: OpenDenoise, write_audio: WriteAudio) -> None:
    write_audio("train/a.wav")
    write_audio("noise/click.wav", samples=np.array([0.5]))
    with pytest.raises(
        DataError,
        match=r"click\.wav: too short to split into training and validation.*data\.noise_valid",
    ):
        open_denoise("train")
