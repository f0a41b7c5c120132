"""Everything wrong with any folder of a run is found before it is queued, in one go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from engine.config.errors import DataError
from engine.config.loading import load_config
from engine.data.kinds import check_data, data_warnings, open_dataset, survey_data


def write(path: Path, *, seconds: float = 0.5, rate_hz: int = 16_000, channels: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.zeros((round(seconds * rate_hz), channels), dtype=np.float32)
    soundfile.write(path, samples, rate_hz)


def problems(data: dict[str, Any]) -> list[str]:
    config = load_config({"data": {"rate_hz": 16_000, **data}})
    try:
        check_data(config.data)
    except DataError as error:
        return [str(problem) for problem in error.problems]
    return []


def test_good_folders_pass(tmp_path: Path) -> None:
    write(tmp_path / "a" / "x.wav")
    data = {"kind": "denoise", "train": str(tmp_path / "a"), "valid": str(tmp_path / "a")}
    assert problems({**data, "noise": str(tmp_path / "a")}) == []


def test_all_folders_are_reported_at_once(tmp_path: Path) -> None:
    write(tmp_path / "train" / "x.wav")
    write(tmp_path / "train" / "y.wav", rate_hz=8_000)
    (tmp_path / "valid").mkdir()
    (tmp_path / "valid" / "broken.flac").write_bytes(b"no audio")
    data = {"kind": "denoise", "train": str(tmp_path / "train"), "valid": str(tmp_path / "valid")}
    found = problems({**data, "noise": str(tmp_path / "nowhere")})
    assert [text.partition(":")[0] for text in found] == ["data.train", "data.valid", "data.noise"]
    assert "mixed sampling rates" in found[0]
    assert "broken.flac" in found[1]
    assert "does not exist" in found[2]


def test_unequal_stems_of_each_track_are_named(tmp_path: Path) -> None:
    for track in ("one", "two"):
        write(tmp_path / track / "vocals.wav")
        write(tmp_path / track / "accompaniment.wav", seconds=0.4)
    found = problems({"kind": "stems", "train": str(tmp_path), "valid": str(tmp_path)})
    assert len(found) == 4
    assert all("differ in length" in text for text in found)


@pytest.mark.parametrize("kind", ["bandwidth", "denoise", "stems"])
def test_real_audio_passes(kind: str, shared_data: Any) -> None:
    vctk, noise, stems = (str(shared_data(name)) for name in ("vctk", "noise", "stems"))
    data = {
        "bandwidth": {"train": f"{vctk}/train", "valid": f"{vctk}/test", "input_rates_hz": [8000]},
        "denoise": {"train": f"{vctk}/train", "valid": f"{vctk}/test", "noise": noise},
        "stems": {"train": f"{stems}/train", "valid": f"{stems}/test"},
    }
    assert problems({"kind": kind, **data[kind]}) == []


def test_a_file_that_was_cut_off_is_found_before_training(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 16_000)
    (tmp_path / "a").mkdir()
    soundfile.write(tmp_path / "a" / "whole.flac", noise, 16_000)
    data = (tmp_path / "a" / "whole.flac").read_bytes()
    (tmp_path / "a" / "cut.flac").write_bytes(data[: len(data) // 3])
    folder = str(tmp_path / "a")
    found = problems(
        {"kind": "bandwidth", "train": folder, "valid": folder, "input_rates_hz": [8000]}
    )
    assert len(found) == 2
    assert all("cut.flac: truncated or damaged" in text for text in found)
    assert all(" of 16000 samples are missing" in text for text in found)


def test_input_rates_and_narrow_audio_are_refused_before_training(tmp_path: Path) -> None:
    write(tmp_path / "wide" / "x.wav")
    write(tmp_path / "narrow" / "x.wav", rate_hz=8_000)
    data = {
        "kind": "bandwidth", "train": str(tmp_path / "narrow"), "valid": str(tmp_path / "wide"),
    }  # fmt: skip
    found = problems({**data, "input_rates_hz": [8_000, 7_919]})
    assert [text.partition(":")[0] for text in found] == ["data.input_rates_hz"]
    assert "can't resample from 16000 to 7919 Hz" in found[0]
    found = problems({**data, "input_rates_hz": [8_000]})
    assert [text.partition(":")[0] for text in found] == ["data.train"]
    assert "8000 Hz in 1 file" in found[0]
    assert "nothing to restore" in found[0]
    assert problems({**data, "input_rates_hz": [4_000]}) == []


def test_validation_on_what_is_trained_on_is_warned_of(tmp_path: Path) -> None:
    def warnings(train: str, valid: str) -> list[str]:
        data = {"kind": "bandwidth", "train": str(tmp_path / train), "valid": str(tmp_path / valid)}
        return data_warnings(load_config({"data": data}).data)

    assert warnings("a", "b") == []
    assert "include training audio" in warnings("a", "a")[0]
    assert "include training audio" in warnings("a", "a/held-out")[0]
    assert "include training audio" in warnings("a", "a/../a")[0]


def test_what_check_enqueue_and_training_make_of_a_wrong_header_is_one_thing(
    tmp_path: Path,
) -> None:
    for name in ("train", "valid"):
        write(tmp_path / name / "a.wav", seconds=2.0)
    path = tmp_path / "train" / "a.wav"
    whole = path.read_bytes()
    at = whole.index(b"data") + 4
    path.write_bytes(whole[:at] + bytes(4) + whole[at + 4 :])
    (tmp_path / "train" / "b.m4a").touch()
    folders = {"train": str(tmp_path / "train"), "valid": str(tmp_path / "valid")}
    config = load_config(
        {"data": {"kind": "bandwidth", "rate_hz": 16_000, "input_rates_hz": [8_000], **folders}}
    )
    check_data(config.data)
    unread, header = data_warnings(config.data)
    assert unread.startswith("data.train: 1 audio file is not used")
    assert header.startswith("data.train: 1 file has a header that does not match the content")
    assert "a.wav: its header gives no length; all 2.00 s are used" in header
    train, valid = survey_data(config.data)
    assert {finding.kind for finding in train.findings} == {"header", "silent"}
    assert train.duration_s == valid.duration_s == 2.0
    assert any("1 audio file is not used" in note for note in train.notes)
    assert not valid.notes
    dataset = open_dataset(config, "train")
    assert [source.length for source in dataset._sources] == [32_000]
