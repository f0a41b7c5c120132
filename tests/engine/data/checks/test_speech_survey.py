"""What the survey of speech says: hours, words, characters, what is left out, and every bad row."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from engine.config.speech import SpeechData
from engine.data.checks.layouts import recognise
from engine.data.checks.survey import survey_folder
from engine.data.kinds import survey_data
from models.folders import walk

RATE = 16_000


def write(folder: Path, name: str, texts: dict[str, str], *, seconds: float = 1.0) -> Path:
    """Write one file for each text, and a manifest of them."""
    folder.mkdir(exist_ok=True)
    draw = np.random.default_rng(0)
    rows = []
    for number, (file, text) in enumerate(texts.items()):
        samples = draw.uniform(-0.5, 0.5, round(RATE * (seconds + number)))
        soundfile.write(folder / f"{file}.wav", samples, RATE)
        rows.append(json.dumps({"path": f"{file}.wav", "text": text}))
    (folder / name).write_text("\n".join(rows))
    return folder / name


def test_a_preset_is_surveyed_with_its_settings(tmp_path: Path) -> None:
    train = write(tmp_path, "t.jsonl", {"a": "one", "b": "two two", "c": "no one"})
    valid = write(tmp_path, "v.jsonl", {"d": "two", "e": "sex"})
    soundfile.write(tmp_path / "a.wav", np.zeros(RATE), RATE)
    data = SpeechData(train=train, valid=valid, max_s=2.5)
    first, second = survey_data(data)
    assert (first.setting, first.layout, first.num_files) == ("data.train", "3 utterances", 3)
    assert first.notes == (
        "utterances of 1.0 to 3.0 s, 0.00 h",
        "5 words (3 distinct), 5 distinct characters: enotw",
        "1 of 3 utterances (3.0 s) skipped: 1 longer than data.max_s = 2.5 s",
    )
    assert [(item.kind, item.message) for item in first.findings] == [
        ("silent", f"{tmp_path}/a.wav: silent, its peak is 0.0e+00")
    ]
    assert [(item.kind, item.message) for item in second.findings] == [
        ("rows", f"{valid}:2: text contains 's', 'x', not in any training text")
    ]
    (empty, _) = survey_data(data.model_copy(update={"min_s": 9.0, "max_s": 10.0}))
    assert "empty" in {item.kind for item in empty.findings}


def test_a_manifest_that_can_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text("{")
    survey = survey_folder(tmp_path / "m.jsonl", segment_s=1.0)
    assert (survey.layout, survey.num_files) == ("no utterances", 0)
    assert [item.kind for item in survey.findings] == ["rows"]


@pytest.mark.parametrize("top", ["train-clean-100", ""])
def test_librispeech_is_recognised(tmp_path: Path, top: str) -> None:
    for split, speaker in (("train-clean-100", "84"), ("dev-clean", "1272")):
        chapter = tmp_path / split / speaker / "7"
        chapter.mkdir(parents=True)
        name = f"{speaker}-7-0000"
        soundfile.write(chapter / f"{name}.flac", np.full(RATE, 0.1), RATE)
        (chapter / f"{speaker}-7.trans.txt").write_text(f"{name} HELLO WORLD\n")
    root = tmp_path / top
    survey = survey_folder(root, segment_s=20.0)
    assert survey.findings == ()
    assert survey.dataset == "LibriSpeech"
    assert survey.layout == ("1 utterance" if top else "2 utterances")
    train, valid = root / ("" if top else "train-clean-100"), root / "dev-clean"
    assert survey.use == (
        f"sepdash enqueue transducer/librispeech-published --set data.train={train} "
        f"--set data.valid={'ELSEWHERE' if top else valid}"
    )
    assert recognise(root / "84", walk(root / "84")) is None
