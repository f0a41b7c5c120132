"""Faulty audio without texts: one clear line each, before a run is queued and in a survey."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from engine.config.errors import DataError
from engine.config.unlabelled import UnlabelledData
from engine.data.checks import unlabelled as checks
from engine.data.checks.survey import survey_folder
from engine.data.files.index import INDEX_NAME, make_index, write_index
from engine.data.kinds import check_data, data_warnings, survey_data, train_sizes
from engine.data.unlabelled.dataset import UnlabelledDataset


def write(path: Path, seconds: float = 3.0, *, rate_hz: int = 8_000, value: float = 0.1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = value * np.sin(np.arange(round(seconds * rate_hz)) / 5)
    soundfile.write(path, wave, rate_hz, subtype="FLOAT" if np.isnan(value) else None)
    return path


def settings(tmp_path: Path, train: str = "train", **values: Any) -> UnlabelledData:
    paths = {"train": str(tmp_path / train), "valid": str(tmp_path / "valid")}
    return UnlabelledData.model_validate_json(json.dumps({"rate_hz": 8_000, **paths, **values}))


def manifest(tmp_path: Path, *rows: Any) -> None:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (tmp_path / "m.jsonl").write_text("\n".join(lines))


@pytest.fixture(autouse=True)
def valid(tmp_path: Path) -> None:
    write(tmp_path / "valid" / "v.wav")


def problems(data: UnlabelledData) -> list[str]:
    with pytest.raises(DataError) as caught:
        check_data(data)
    return [str(problem) for problem in caught.value.problems]


def empty_folder(tmp_path: Path) -> str:
    (tmp_path / "train").mkdir()
    return "no audio files in {train}; expected files ending in .aif"


def no_folder(tmp_path: Path) -> str:
    return "{train} does not exist; expected a folder of audio or a manifest"


def unreadable_file(tmp_path: Path) -> str:
    write(tmp_path / "train" / "good.wav")
    (tmp_path / "train" / "bad.flac").write_bytes(b"no audio at all")
    return "{train}/bad.flac: can't be read as audio ("


def truncated_file(tmp_path: Path) -> str:
    path = write(tmp_path / "train" / "cut.wav")
    path.write_bytes(path.read_bytes()[:-1_000])
    return "{train}/cut.wav: truncated, 1000 bytes are missing; copy or record it again"


def wrong_rate(tmp_path: Path) -> str:
    write(tmp_path / "train" / "odd.wav", rate_hz=44_101)
    return "can't resample from 44101 to 8000 Hz: their greatest common divisor is only 1"


def one_short_file(tmp_path: Path) -> str:
    write(tmp_path / "train" / "short.wav", 0.7)
    return (
        "{train}: no utterance of data.min_s = 2 s or more: all 1 are shorter (0.70 to 0.70 s); "
        "lower data.min_s, or set data.join_s to join short files of a folder to items of 3 s"
    )


@pytest.mark.parametrize(
    "fault",
    [empty_folder, no_folder, unreadable_file, truncated_file, wrong_rate, one_short_file],
)
def test_a_faulty_folder_is_refused_in_one_line(
    tmp_path: Path, fault: Callable[[Path], str]
) -> None:
    words = fault(tmp_path).format(train=tmp_path / "train")
    (problem,) = problems(settings(tmp_path))
    assert problem.startswith("data.train: ")
    assert words in problem
    assert "\n" not in problem


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"sound": "a.wav", "duration": 2.0}, "'path' is missing, found 'sound', 'duration'"),
        ({"path": "a.wav", "duraton": 2.0}, "unknown key 'duraton', did you mean 'duration'?"),
        ({"path": "a.wav", "duration": "2"}, "duration must be a number of seconds, found '2'"),
        ({"path": "a.wav", "duration": True}, "duration must be a number of seconds, found True"),
        ({"path": "a.wav", "duration": 0}, "duration = 0 s must be above 0"),
        ({"path": "a.wav", "start": -1.0}, "start = -1 s must not be negative"),
        ({"path": "a.wav", "start": 3.5}, "start = 3.5 s, but the file ends at 3.000 s"),
        (
            {"path": "a.wav", "start": 1.0, "duration": 9.0},
            "start + duration = 10.000 s, but the file ends at 3.000 s",
        ),
        (
            {"path": "a.wav", "frames": 24_000, "rate_hz": 8_000, "duration": 3.5},
            "start + duration = 3.500 s, but the file ends at 3.000 s",
        ),
        (
            {"path": "a.wav", "frames": -5, "rate_hz": 8_000},
            "frames must be a whole number above 0, found -5",
        ),
        (
            {"path": "a.wav", "frames": 10**400, "rate_hz": 8_000},
            "frames must be a whole number above 0, found 1000",
        ),
        ({"path": "a.wav", "duration": 10**400}, "duration must be a number of seconds, found 100"),
        ('{"path": "a.wav", "duration": NaN}', "duration must be a number of seconds, found nan"),
        ({"path": ""}, "path is empty"),
        ({"path": 7}, "path must be text, found 7"),
        ({"path": "b.wav"}, "b.wav: can't be read as audio (it does not exist)"),
        (["a.wav"], "expected a JSON object like {...}, found ['a.wav']"),
        ("a.wav", "invalid JSON (Expecting value at column 1)"),
        ('{"path": "a.wav"}, {"path": "a.wav"}', "invalid JSON (Extra data at column 18)"),
    ],
)
def test_a_faulty_row_is_named_and_the_good_ones_are_not(
    tmp_path: Path, row: Any, words: str
) -> None:
    write(tmp_path / "a.wav")
    manifest(tmp_path, {"path": "a.wav"}, {"path": "a.wav", "start": 0.5, "duration": 2.5}, row)
    (problem,) = problems(settings(tmp_path, "m.jsonl"))
    assert problem.startswith(f"data.train: {tmp_path / 'm.jsonl'}:3: ")
    assert words in problem


def test_an_empty_manifest_shows_what_a_row_looks_like(tmp_path: Path) -> None:
    manifest(tmp_path, "")
    (problem,) = problems(settings(tmp_path, "m.jsonl"))
    assert 'contains no utterances; expected lines like {"path": "a.flac"' in problem


def test_a_file_that_a_row_with_a_duration_names_is_opened_before_a_run(tmp_path: Path) -> None:
    manifest(tmp_path, {"path": "gone.wav", "duration": 3.0})
    (problem,) = problems(settings(tmp_path, "m.jsonl"))
    assert "gone.wav: can't be read as audio (it does not exist)" in problem


def test_of_very_many_files_some_are_opened_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "MOST_OPENED", 10)
    rows = [{"path": str(write(tmp_path / f"{n:02}.wav")), "duration": 3.0} for n in range(30)]
    manifest(tmp_path, *rows)
    data = settings(tmp_path, "m.jsonl")
    check_data(data)
    assert "data.train: only 10 of 30 files are opened before a run" in data_warnings(data)[0]
    (tmp_path / "29.wav").unlink()  # the first and the last are always opened
    assert "29.wav" in problems(data)[0]


def test_samples_that_are_no_numbers_are_found_by_a_survey_and_when_they_are_read(
    tmp_path: Path,
) -> None:
    path = write(tmp_path / "train" / "nan.wav", value=np.nan)
    survey = survey_data(settings(tmp_path))[0]
    assert [finding.message for finding in survey.findings] == [
        f"{path}: contains NaN or infinite samples; record it again"
    ]
    with pytest.raises(DataError, match=r"nan\.wav: contains non-finite values"):
        UnlabelledDataset(settings(tmp_path), "train").audio(0)


def test_a_file_that_was_cut_after_the_manifest_is_named_when_it_is_read(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", 2.5)
    manifest(tmp_path, {"path": "a.wav", "duration": 3.0})
    data = UnlabelledDataset(settings(tmp_path, "m.jsonl"), "train")
    with pytest.raises(DataError, match=r"ends at 3\.000 s, but the file ends at 2\.500 s"):
        data.audio(0)


def test_a_survey_counts_what_is_cut_joined_and_skipped(tmp_path: Path) -> None:
    write(tmp_path / "train" / "a" / "long.wav", 40.0)
    for number in range(5):
        write(tmp_path / "train" / "b" / f"{number}.wav", 0.8)
    write(tmp_path / "train" / "c" / "alone.wav", 0.5)
    train, valid = survey_data(settings(tmp_path, join_s=3.0))
    assert train.findings == valid.findings == ()
    assert (train.num_files, train.layout) == (7, "7 utterances")
    assert train.notes == (
        "4 items of 4.0 to 13.3 s, 0.01 h",
        "1 utterance cut: longer than data.max_s = 15.6 s",
        "5 utterances joined: shorter than data.join_s = 3 s",
        "1 of 7 utterances (0.5 s) skipped: shorter than data.min_s = 2 s",
    )
    assert len(train_sizes(settings(tmp_path, join_s=3.0))) == 4


def test_training_on_validation_audio_is_warned_of(tmp_path: Path) -> None:
    write(tmp_path / "train" / "t.wav")
    (tmp_path / "train" / "link.wav").symlink_to(tmp_path / "valid" / "v.wav")
    assert data_warnings(settings(tmp_path)) == [
        "data.valid shares 1 utterance with data.train, so validation scores include training audio; "
        "use separate files"
    ]


def test_sizes_and_items_come_from_an_index_as_from_its_folder(tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path / "train" / f"{number}.wav", 2.0 + number)
    write_index(tmp_path / "train" / INDEX_NAME, make_index(tmp_path / "train"))
    of_index = train_sizes(settings(tmp_path, f"train/{INDEX_NAME}"))
    assert of_index.tolist() == train_sizes(settings(tmp_path)).tolist() == [[2.0], [3.0], [4.0]]
    check_data(settings(tmp_path, f"train/{INDEX_NAME}"))


def test_a_manifest_alone_is_surveyed_without_texts_if_it_has_none(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", 0.4)
    manifest(tmp_path, {"path": "a.wav"}, {"path": "gone.wav", "duration": 2.0})
    survey = survey_folder(tmp_path / "m.jsonl", segment_s=2.0)
    assert survey.layout == "2 utterances"
    (finding,) = survey.findings
    assert "gone.wav: can't be read as audio (it does not exist)" in finding.message
    manifest(tmp_path, {"path": "a.wav", "text": "one"}, {"path": "a.wav"})
    (finding,) = survey_folder(tmp_path / "m.jsonl", segment_s=2.0).findings
    assert "m.jsonl:2: 'text' is missing" in finding.message


def test_a_row_that_its_file_has_outgrown_is_named(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", 4.0)
    manifest(tmp_path, {"path": "a.wav", "frames": 24_000, "rate_hz": 8_000})
    (problem,) = problems(settings(tmp_path, "m.jsonl"))
    assert problem.endswith(
        "m.jsonl:1: says 24000 samples at 8000 Hz, but the file has 32000 at 8000 Hz; it has changed: "
        "write the manifest again"
    )


def test_a_list_of_fairseq_is_read_and_its_bad_lines_are_named(tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path / "audio" / f"{number}.wav", 2.0 + number)
    lines = [str(tmp_path / "audio"), "2.wav\t32000", "0.wav\t16000", "1.wav\t24000"]
    (tmp_path / "train.tsv").write_text("\n".join(lines) + "\n")
    data = settings(tmp_path, "train.tsv")
    check_data(data)
    assert train_sizes(data).tolist() == [[2.0], [3.0], [4.0]]
    (tmp_path / "train.tsv").write_text("\n".join([*lines, "3.wav 16000", "gone.wav\t1"]))
    first, second = problems(data)
    assert (
        "train.tsv:5: expected a file name, a tab and its number of samples, found '3.wav" in first
    )
    assert "train.tsv:6:" in second
    assert "gone.wav: can't be read as audio (it does not exist)" in second
    (tmp_path / "train.tsv").write_text("")
    assert "contains no utterances" in problems(data)[0]
