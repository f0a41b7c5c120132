"""Labelled recordings from folders and manifests: labels, units, splits, and messages about bad ones."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile

from engine.config.errors import DataError
from engine.data.speech.labelled import held_out_units, limited, read_labelled


def write(path, seconds=0.3):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.full(int(8_000 * seconds), 0.1), 8_000)
    return path


def manifest(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def folder(tmp_path):
    for speaker in ("ann", "bob"):
        for label in ("yes", "no"):
            for take in (0, 4, 5, 11):
                write(tmp_path / "words" / speaker / f"{label}_{take:02}.wav")
    return tmp_path / "words"


def test_file_names_say_speaker_word_and_take(folder):
    found = read_labelled(folder)
    assert found.speakers == ("ann", "bob")
    assert found.labels == ("no", "yes")
    tested = {item.info.path.stem for item in found.recordings if item.split == "test"}
    assert tested == {"yes_00", "yes_04", "no_00", "no_04"}
    first = found.recordings[0]
    assert (first.speaker, first.parts[0].label, first.unit) == ("ann", "no", "ann 00")
    assert (first.parts[0].start_s, first.parts[0].end_s) == (0.0, 0.3)
    assert not first.has_silence


def test_takes_of_other_numbers_are_split_by_a_hash(tmp_path):
    for speaker in "ab":
        for take in range(10, 18):
            write(tmp_path / speaker / f"yes_{take}.wav")
            write(tmp_path / speaker / f"no_{take}.wav")
    found = read_labelled(tmp_path)
    units = {
        split: {i.unit for i in found.recordings if i.split == split} for split in ("train", "test")
    }
    assert not units["train"] & units["test"]
    assert len(units["test"]) == 4
    assert {unit[0] for unit in units["test"]} == {"a", "b"}


def test_words_with_places_are_parts_and_the_rest_is_silence(tmp_path):
    write(tmp_path / "a.wav", 1.0)
    words = [{"word": "one", "start": 0.1, "end": 0.4}, {"word": "two", "start": 0.5, "end": 0.9}]
    rows = [
        {"path": "a.wav", "text": "one two", "speaker": "ann", "words": words, "split": split}
        for split in ("train", "valid")
    ]
    found = read_labelled(manifest(tmp_path / "m.jsonl", rows))
    assert [item.split for item in found.recordings] == ["train", "test"]
    assert [(part.label, part.end_s) for part in found.recordings[0].parts] == [
        ("one", 0.4),
        ("two", 0.9),
    ]
    assert found.recordings[0].has_silence


def test_label_stands_for_text_and_parts_of_a_file_share_its_unit(tmp_path):
    write(tmp_path / "long.wav", 2.0)
    write(tmp_path / "other.wav", 1.0)
    rows = [
        {
            "path": "long.wav",
            "start": 0.5 * k,
            "duration": 0.5,
            "label": "ab"[k % 2],
            "speaker": "x",
        }
        for k in range(4)
    ]
    rows.append({"path": "other.wav", "label": "a", "speaker": "x"})
    found = read_labelled(manifest(tmp_path / "m.jsonl", rows))
    assert found.labels == ("a", "b")
    assert len({item.unit for item in found.recordings}) == 2
    assert len({(item.unit, item.split) for item in found.recordings}) == 2


def test_what_digits_writes_can_be_probed(tmp_path):
    from engine.data.speech.digit_strings import build_digit_strings

    draw = np.random.default_rng(0)
    for speaker in "ab":
        for digit in range(10):
            for take in (0, 1, 5, 6):
                path = tmp_path / "takes" / speaker / f"{digit}_{take:02}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                loud = np.full(1_600 + 80 * digit, 0.5)
                soundfile.write(path, loud * np.sign(draw.normal(size=len(loud))), 8_000)
    build_digit_strings(tmp_path / "takes", tmp_path / "out", num_train=4, num_valid=3)
    found = read_labelled(tmp_path / "out")
    assert [item.split for item in found.recordings] == ["train"] * 4 + ["test"] * 3
    for item in found.recordings:
        samples, rate = soundfile.read(item.info.path)
        loud = np.abs(samples) > 0.05 * np.abs(samples).max()
        inside = np.zeros(len(samples), dtype=bool)
        for part in item.parts:
            inside[round(part.start_s * rate) : round(part.end_s * rate)] = True
        # The boundaries are those of the takes: all that is loud is inside, all inside is loud.
        assert loud[inside].mean() > 0.99
        assert loud[~inside].mean() < 0.01
    assert set(found.speakers) <= {"a", "b"}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"words": "one"}, "words must be a list like"),
        (
            {"words": [{"word": "one", "start": 0.5, "end": 9}]},
            "from 0.5 to 9 s, but the utterance",
        ),
        ({"words": [{"word": "one", "start": float("nan"), "end": 0.1}]}, "but the utterance"),
        ({"words": [{"text": "one"}]}, "words must be a list like"),
        ({"speaker": 7}, "speaker must be text"),
        ({"split": "dev"}, "split must be train, valid or test in every row or in none"),
    ],
)
def test_bad_rows_are_named(tmp_path, row, message):
    write(tmp_path / "a.wav", 1.0)
    rows = [{"path": "a.wav", "text": "one", "speaker": "ann"} | row]
    with pytest.raises(DataError, match=message) as caught:
        read_labelled(manifest(tmp_path / "m.jsonl", rows), setting="--data")
    assert "m.jsonl:1" in str(caught.value)
    assert str(caught.value).startswith("--data")


def test_nothing_to_tell_apart_is_refused(tmp_path):
    for take in range(8):
        write(tmp_path / "ann" / f"yes_{take:02}.wav")
    with pytest.raises(DataError, match="neither two different words nor two speakers"):
        read_labelled(tmp_path)
    with pytest.raises(DataError, match="no files named <speaker>/<label>_<take>"):
        read_labelled(write(tmp_path / "other" / "noise.wav").parent)
    with pytest.raises(DataError, match="does not exist"):
        read_labelled(tmp_path / "gone")


def test_texts_without_places_serve_speakers_only(tmp_path):
    write(tmp_path / "a.wav", 1.0)
    rows = [
        {"path": "a.wav", "text": "one two", "speaker": name, "split": split}
        for name in ("ann", "bob")
        for split in ("train", "test")
    ]
    found = read_labelled(manifest(tmp_path / "m.jsonl", rows))
    assert found.labels == ()
    assert "speaker probe only" in found.notes[0]


def test_samples_are_even_over_speakers_and_seeded(folder):
    found = read_labelled(folder)
    small = limited(found, {"train": 4, "test": 2})
    assert [sum(i.split == s for i in small.recordings) for s in ("train", "test")] == [4, 2]
    assert [sum(i.speaker == s for i in small.recordings) for s in ("ann", "bob")] == [3, 3]
    assert small == limited(found, {"train": 4, "test": 2})
    assert small.notes == ("a sample of 6 of 16 recordings",)
    assert limited(found, {"train": 99, "test": 99}) == found


def test_held_out_units_are_whole_takes_of_each_speaker(folder):
    recordings = read_labelled(folder).recordings
    held = held_out_units(recordings)
    assert {unit.partition(" ")[0] for unit in held} == {"ann", "bob"}
    assert len(held) == 2
