"""Mixtures of speakers: who talks, how loud, which files belong to which split."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from engine.config.errors import DataError
from engine.config.schema import RunConfig
from engine.data.kinds import check_data, open_dataset
from engine.data.separation.speakers import SpeakersDataset

MakeConfig = Callable[..., RunConfig]
WriteAudio = Callable[..., np.ndarray]


@pytest.fixture
def people(write_audio: WriteAudio) -> dict[str, np.ndarray]:
    """Three speakers with three recordings each: shorter, as long as, and longer than a segment."""
    return {
        f"{person}/{take}": write_audio(
            f"people/{person}/{take}.wav", frames=frames, seed=10 * number + take
        )
        for number, person in enumerate(("ada", "bob", "cyd"))
        for take, frames in enumerate((500, 800, 2000))
    }


@pytest.fixture
def config(people: dict[str, np.ndarray], make_config: MakeConfig, tmp_path: Path) -> RunConfig:
    folder = tmp_path / "people"
    return make_config("speakers", train=folder, valid=folder)


def opened(config: RunConfig, split: str) -> SpeakersDataset:
    dataset = open_dataset(config, split)  # type: ignore[arg-type]
    assert isinstance(dataset, SpeakersDataset)
    return dataset


@pytest.mark.parametrize("split", ["train", "valid"])
def test_the_mixture_is_the_sum_of_the_voices(config: RunConfig, split: str) -> None:
    dataset = opened(config, split)
    for index in range(len(dataset)):
        item = dataset.item(3, index)
        assert item.target_SCT.dtype == item.mix_CT.dtype == np.float32
        assert item.target_SCT.shape[0] == 2
        np.testing.assert_allclose(item.mix_CT, item.target_SCT.sum(axis=0), atol=1e-7)
        assert (np.abs(item.target_SCT).max(axis=(1, 2)) > 0).all()


def test_training_items_have_the_segment_length_and_validation_that_of_the_file(
    config: RunConfig,
) -> None:
    train, valid = opened(config, "train"), opened(config, "valid")
    assert len(train) == 3 * (1 + 1 + 2)
    assert {train.item(0, index).mix_CT.shape for index in range(len(train))} == {(1, 800)}
    assert [valid.item(0, i).mix_CT.shape[1] for i in range(3)] == [500, 800, 2000]


def test_voices_belong_to_different_speakers(config: RunConfig, make_config: MakeConfig) -> None:
    dataset = opened(config, "train")
    chosen = set()
    for index in range(len(dataset)):
        own = index // 4
        for epoch in range(20):
            (voice,) = dataset.voices(epoch, index)
            assert voice.file // 3 != own
            chosen.add(voice.file)
            assert -5 <= voice.level_db <= 5
    assert chosen == set(range(9))


def test_three_voices_are_of_three_speakers(
    people: dict[str, np.ndarray], make_config: MakeConfig, tmp_path: Path
) -> None:
    folder = tmp_path / "people"
    config = make_config("speakers", train=folder, valid=folder, num_speakers=3)
    assert config.num_sources == 3
    assert config.data.source_names == ("speaker1", "speaker2", "speaker3")
    dataset = opened(config, "train")
    for epoch in range(10):
        assert {voice.file // 3 for voice in dataset.voices(epoch, 0)} == {1, 2}
    assert dataset.item(0, 0).target_SCT.shape == (3, 1, 800)


def test_levels_are_ratios_of_energy(config: RunConfig) -> None:
    dataset = opened(config, "train")
    for index in range(len(dataset)):
        first, second = np.square(dataset.item(1, index).target_SCT.astype(float)).sum(axis=(1, 2))
        (voice,) = dataset.voices(1, index)
        assert 10 * np.log10(second / first) == pytest.approx(voice.level_db, abs=1e-3)


def test_a_short_voice_lies_whole_within_the_item(
    config: RunConfig, people: dict[str, np.ndarray]
) -> None:
    dataset = opened(config, "valid")
    for index in range(len(dataset)):
        (voice,) = dataset.voices(0, index)
        second = dataset.item(0, index).target_SCT[1, 0]
        own = list(people.values())[voice.file][0]
        if len(own) < len(second):
            held = np.flatnonzero(second)
            assert held[-1] - held[0] + 1 == len(own)


def test_held_out_files_are_for_validation_only(
    people: dict[str, np.ndarray], make_config: MakeConfig, tmp_path: Path
) -> None:
    folder = tmp_path / "people"
    config = make_config("speakers", train=folder, valid=folder, held_out="[01].*")
    check_data(config.data)
    assert len(opened(config, "train")) == 3 * 2
    assert len(opened(config, "valid")) == 3 * 2
    assert opened(config, "train").manifest != opened(config, "valid").manifest


def test_validation_does_not_depend_on_the_seed(
    people: dict[str, np.ndarray], make_config: MakeConfig, tmp_path: Path
) -> None:
    folder = tmp_path / "people"
    one, two = (make_config("speakers", train=folder, valid=folder, seed=seed) for seed in (0, 1))
    for index in range(9):
        first = opened(one, "valid").item(0, index).mix_CT
        np.testing.assert_array_equal(first, opened(two, "valid").item(5, index).mix_CT)
    train = [opened(config, "train").item(0, 3).mix_CT for config in (one, two)]
    assert not np.array_equal(*train)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"num_speakers": 4},
            "mixtures need at least 4 speakers, found files of 3 (ada, bob, cyd)",
        ),
        ({"held_out": "9.wav"}, "found files that match data.held_out = '9.wav' of 0 (none)"),
        ({"held_out": "*"}, "do not match data.held_out = '*' of 0 (none)"),
    ],
)
def test_too_few_speakers_are_refused_before_a_run_is_queued(
    people: dict[str, np.ndarray],
    make_config: MakeConfig,
    tmp_path: Path,
    settings: dict[str, object],
    words: str,
) -> None:
    folder = tmp_path / "people"
    config = make_config("speakers", train=folder, valid=folder, **settings)
    with pytest.raises(DataError) as caught:
        check_data(config.data)
    assert words in str(caught.value)
    assert "expected <speaker>/<name>.flac" in str(caught.value)
