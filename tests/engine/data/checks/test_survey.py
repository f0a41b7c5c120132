"""The survey of a folder finds each kind of problem, in the file that has it, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from engine.config.errors import DataError
from engine.config.schema import RunConfig
from engine.data.checks.listening import count_plateaus
from engine.data.checks.survey import survey_folder
from engine.data.kinds import survey_data

MakeConfig = Callable[..., RunConfig]
WriteAudio = Callable[..., np.ndarray]


def found(folder: Path, *, segment_s: float = 0.1, content: bool = True) -> list[tuple[str, str]]:
    """Return (kind, path below the folder) of all findings."""
    survey = survey_folder(folder, segment_s=segment_s, content=content)
    return [
        (item.kind, item.message.partition(":")[0].removeprefix(f"{folder}/"))
        for item in survey.findings
    ]


def test_every_kind_of_problem_is_listed_at_once(tmp_path: Path, write_audio: WriteAudio) -> None:
    for name in "abcde":
        write_audio(f"{name}.wav", channels=2)
    write_audio("slow.wav", rate_hz=4000, channels=2)
    write_audio("mono.wav")
    write_audio("short.wav", frames=799, channels=2)
    write_audio("silent.wav", samples=np.full((2, 1000), 9e-5))
    write_audio("clipped.wav", samples=np.tile([1.0, 1.0, 1.0, 0.5], (2, 250)))
    write_audio("nan.wav", samples=np.full((2, 1000), np.nan))
    (tmp_path / "text.wav").write_text("no audio")
    write_audio("cut.flac", frames=50_000, channels=2)
    data = (tmp_path / "cut.flac").read_bytes()
    (tmp_path / "cut.flac").write_bytes(data[: len(data) // 2])
    assert found(tmp_path) == [
        ("unreadable", "cut.flac"),
        ("unreadable", "nan.wav"),
        ("unreadable", "text.wav"),
        ("rate", "slow.wav"),
        ("channels", "mono.wav"),
        ("short", "short.wav"),
        ("silent", "silent.wav"),
        ("clipped", "clipped.wav"),
    ]


def test_headers_alone_tell_of_no_sound_but_of_cut_files(
    tmp_path: Path, write_audio: WriteAudio
) -> None:
    write_audio("silent.wav", samples=np.zeros(1000))
    write_audio("cut.flac", frames=50_000)
    data = (tmp_path / "cut.flac").read_bytes()
    (tmp_path / "cut.flac").write_bytes(data[: len(data) // 2])
    assert found(tmp_path, content=False) == [("unreadable", "cut.flac")]


def test_counts_and_hours(tmp_path: Path, write_audio: WriteAudio) -> None:
    write_audio("a.wav", frames=8000)
    write_audio("b/c.wav", frames=4000)
    survey = survey_folder(tmp_path, segment_s=0.1)
    assert (survey.num_files, survey.duration_s) == (2, 1.5)
    assert (survey.rates_hz, survey.channels) == ({8000: 2}, {1: 2})
    assert survey.findings == ()


def test_tracks_are_recognised_by_the_names_they_share(
    tmp_path: Path, write_audio: WriteAudio
) -> None:
    for track in ("one", "two", "three"):
        for stem in ("vocals", "drums"):
            write_audio(f"train/{track}/{stem}.wav")
    (tmp_path / "train/one/drums.wav").unlink()
    write_audio("train/two/drums.wav", frames=1001)
    survey = survey_folder(tmp_path, segment_s=0.1)
    assert survey.layout == "3 tracks of drums, vocals"
    assert [item.kind for item in survey.findings] == ["stems", "stems"]
    assert "one: stem 'drums' is missing, found vocals.wav" in survey.findings[0].message
    assert "two: stems differ in length or sampling rate" in survey.findings[1].message
    assert survey.num_files == 5


def test_speakers_are_no_tracks(tmp_path: Path, write_audio: WriteAudio) -> None:
    for speaker in ("george", "jackson"):
        for take in range(15):
            write_audio(f"{speaker}/{take}.wav", frames=900 + take)
    assert found(tmp_path) == []


def test_an_empty_folder_and_none_at_all(tmp_path: Path) -> None:
    assert found(tmp_path) == [("empty", str(tmp_path))]
    with pytest.raises(DataError, match="does not exist"):
        survey_folder(tmp_path / "nowhere", segment_s=1.0)


def test_a_task_is_held_to_its_settings(
    tmp_path: Path, make_config: MakeConfig, write_audio: WriteAudio
) -> None:
    write_audio("train/song/vocals.wav", rate_hz=16_000, channels=2)
    write_audio("train/song/accompaniment.wav", rate_hz=16_000, channels=2)
    config = make_config("stems", resample="never", segment_s=1.0)
    train, valid = survey_data(config.data)
    assert (train.setting, valid.setting) == ("data.train", "data.valid")
    assert [item.kind for item in train.findings] == ["rate", "short", "short"]
    assert "data.rate_hz = 8000" in train.findings[0].message
    assert [item.kind for item in valid.findings] == ["empty"]


def test_noise_and_input_rates_are_looked_at(
    tmp_path: Path, make_config: MakeConfig, write_audio: WriteAudio
) -> None:
    for name in ("train/a.wav", "valid/a.wav", "noise/a.wav"):
        write_audio(name)
    surveys = survey_data(make_config("denoise", noise=tmp_path / "noise").data)
    assert [item.setting for item in surveys] == ["data.train", "data.valid", "data.noise"]
    odd = survey_data(make_config("bandwidth", input_rates_hz=[7919]).data)
    assert [item.kind for item in odd[-1].findings] == ["settings"]


def test_too_few_speakers(make_config: MakeConfig, write_audio: WriteAudio) -> None:
    write_audio("train/one/a.wav")
    write_audio("valid/one/a.wav")
    write_audio("valid/two/a.wav")
    train, valid = survey_data(make_config("speakers").data)
    assert [item.kind for item in train.findings] == ["empty"]
    assert valid.findings == ()
    assert valid.layout == "2 speakers"


def test_a_plateau_is_counted_once_wherever_blocks_meet() -> None:
    samples_TC = np.zeros((40, 2))
    samples_TC[3:8, 0] = 1.0
    samples_TC[20:22, 0] = 1.0
    samples_TC[30:33, 1] = -1.0
    for size in (3, 4, 5, 7, 11, 40):
        total, before_C = 0, np.zeros(2, bool)
        for start in range(0, 38, size - 2):
            more, before_C = count_plateaus(samples_TC[start : start + size], before_C)
            total += more
        assert total == 2, size


def test_long_files_are_heard_to_their_end(tmp_path: Path, write_audio: WriteAudio) -> None:
    samples = np.zeros(600_000)
    samples[-1] = 0.5
    write_audio("late.wav", samples=samples)
    survey = survey_folder(tmp_path, segment_s=0.1)
    assert survey.findings == ()


def test_real_audio_has_no_problems(shared_data: Callable[[str], Path]) -> None:
    assert found(shared_data("vctk"), segment_s=1.0) == []
    assert found(shared_data("noise"), segment_s=1.0) == []
