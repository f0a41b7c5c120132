"""Stem items: the mixture adds up, all stems share a place, and all problems come at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from engine.config.errors import DataError
from engine.config.schema import RunConfig
from engine.data.kinds import open_dataset

MakeConfig = Callable[..., RunConfig]
WriteAudio = Callable[..., np.ndarray]


def write_track(
    write_audio: WriteAudio, name: str, *, frames: int = 2000, seed: int = 0
) -> dict[str, np.ndarray]:
    stems = ("vocals", "drums", "bass")
    return {
        stem: write_audio(f"{name}/{stem}.wav", frames=frames, seed=10 * seed + number)
        for number, stem in enumerate(stems)
    }


@pytest.fixture
def config(make_config: MakeConfig) -> RunConfig:
    return make_config("stems", targets=["vocals", "bass"], others=["drums"])


def test_the_mixture_is_the_sum_of_all_stems(config: RunConfig, write_audio: WriteAudio) -> None:
    stems = write_track(write_audio, "valid/song")
    item = open_dataset(config, "valid").item(0, 0)
    np.testing.assert_array_equal(item.target_SCT, np.stack([stems["vocals"], stems["bass"]]))
    total = stems["vocals"] + stems["bass"] + stems["drums"]
    np.testing.assert_allclose(item.mix_CT, total, atol=1e-7)


def test_a_mixture_file_is_read_as_it_is(make_config: MakeConfig, write_audio: WriteAudio) -> None:
    stems = write_track(write_audio, "valid/song")
    mixture = write_audio("valid/song/mixture.wav", frames=2000, seed=99)
    config = make_config("stems", targets=["vocals"], others=["missing"], mixture="mixture")
    item = open_dataset(config, "valid").item(0, 0)
    np.testing.assert_array_equal(item.mix_CT, mixture)
    np.testing.assert_array_equal(item.target_SCT[0], stems["vocals"])


def test_training_crops_all_stems_at_one_place(config: RunConfig, write_audio: WriteAudio) -> None:
    for number in range(2):
        write_track(write_audio, f"train/song-{number}", seed=number)
    dataset = open_dataset(config, "train")
    assert len(dataset) == 4
    for index in range(4):
        item = dataset.item(0, index)
        assert item.mix_CT.shape == (1, 800)
        assert item.target_SCT.shape == (2, 1, 800)
    places = {dataset.item(epoch, 0).mix_CT.tobytes() for epoch in range(5)}
    assert len(places) == 5


def test_crops_of_stems_belong_together(make_config: MakeConfig, write_audio: WriteAudio) -> None:
    ramp = np.linspace(0.1, 0.4, 5000)
    write_audio("train/song/vocals.wav", samples=ramp)
    write_audio("train/song/accompaniment.wav", samples=-ramp)
    dataset = open_dataset(make_config("stems"), "train")
    for epoch in range(5):
        item = dataset.item(epoch, 0)
        assert np.abs(item.mix_CT).max() < 1e-7
        assert item.target_SCT.min() > 0.09


def test_mono_and_stereo_stems_mix(make_config: MakeConfig, write_audio: WriteAudio) -> None:
    vocals = write_audio("valid/song/vocals.wav", channels=1)
    rest = write_audio("valid/song/accompaniment.flac", channels=2)
    item = open_dataset(make_config("stems", channels=2), "valid").item(0, 0)
    assert item.mix_CT.shape == (2, 1000)
    np.testing.assert_allclose(item.mix_CT, vocals + rest, atol=1e-4)


def test_short_tracks_are_padded(config: RunConfig, write_audio: WriteAudio) -> None:
    write_track(write_audio, "train/song", frames=100)
    item = open_dataset(config, "train").item(0, 0)
    assert item.mix_CT.shape == (1, 800)
    assert not item.target_SCT[:, :, :350].any()


def test_all_problems_of_all_tracks_at_once(
    tmp_path: Path, config: RunConfig, write_audio: WriteAudio
) -> None:
    write_track(write_audio, "train/good")
    write_track(write_audio, "train/no-bass")
    (tmp_path / "train/no-bass/bass.wav").unlink()
    write_track(write_audio, "train/twice")
    write_audio("train/twice/vocals.flac", frames=2000)
    write_track(write_audio, "train/unequal")
    write_audio("train/unequal/drums.wav", frames=1999)
    write_track(write_audio, "train/unreadable")
    (tmp_path / "train/unreadable/drums.wav").write_text("no audio")
    (tmp_path / "train/void").mkdir()
    with pytest.raises(DataError) as caught:
        open_dataset(config, "train")
    root = tmp_path / "train"
    messages = [problem.message for problem in caught.value.problems]
    assert {problem.key for problem in caught.value.problems} == {"data.train"}
    assert messages[0] == f"{root}/no-bass: stem 'bass' is missing, found drums.wav, vocals.wav"
    assert (
        messages[1] == f"{root}/twice: 2 files for stem 'vocals': vocals.flac, vocals.wav; keep one"
    )
    assert messages[2] == (
        f"{root}/unequal: stems differ in length or sampling rate: vocals.wav 2000 samples at 8000 Hz, "
        "bass.wav 2000 samples at 8000 Hz, drums.wav 1999 samples at 8000 Hz; make them equal"
    )
    assert messages[3].startswith(f"{root}/unreadable/drums.wav: can't be read as audio")
    assert messages[4] == f"{root}/void: stem 'vocals' is missing, found no audio files"
    assert len(messages) == 7


def test_a_folder_of_files_in_place_of_tracks(config: RunConfig, write_audio: WriteAudio) -> None:
    write_audio("train/vocals.wav")
    with pytest.raises(
        DataError, match=r"data\.train: no tracks in .*expected <track>/vocals\.flac"
    ):
        open_dataset(config, "train")


def test_a_missing_folder(config: RunConfig) -> None:
    with pytest.raises(DataError, match=r"data\.valid: folder .* does not exist"):
        open_dataset(config, "valid")


def test_tracks_of_mixed_rates(make_config: MakeConfig, write_audio: WriteAudio) -> None:
    for track, rate_hz in (("a", 8000), ("b", 16000)):
        for stem in ("vocals", "accompaniment"):
            write_audio(f"train/{track}/{stem}.wav", rate_hz=rate_hz)
    with pytest.raises(DataError, match="mixed sampling rates: 8000 Hz in 2 files"):
        open_dataset(make_config("stems"), "train")
    assert len(open_dataset(make_config("stems", resample="any"), "train")) == 2
