"""Manifests and LibriSpeech folders: what is read, and that every bad row is named at once."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from engine.config.errors import DataError
from engine.config.loading import load_config
from engine.config.speech import SpeechData
from engine.data.kinds import check_data, data_warnings
from engine.data.speech.transcripts import Utterance, read_manifest, write_manifest
from engine.text.normalise import normalise, vocabulary_of

RATE = 8_000


def speech(train: Path, valid: Path | None = None, **settings: Any) -> SpeechData:
    paths = {"train": str(train), "valid": str(valid or train)}
    values = {"kind": "speech", **paths, "rate_hz": RATE, **settings}
    return SpeechData.model_validate_json(json.dumps(values))


def write_audio(path: Path, seconds: float = 2.0, rate_hz: int = RATE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, round(seconds * rate_hz))
    soundfile.write(path, samples, rate_hz)
    return path


def write_rows(path: Path, rows: list[dict[str, Any] | str]) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    write_audio(tmp_path / "audio" / "a.flac")
    write_audio(tmp_path / "audio" / "b.wav")
    rows: list[dict[str, Any] | str] = [
        {"path": "audio/a.flac", "text": "One, TWO!"},
        {"path": "audio/b.wav", "start": 0.5, "duration": 1, "text": "three", "speaker": "x"},
        {"path": str(tmp_path / "audio" / "b.wav"), "start": 1.5, "text": "four"},
    ]
    return write_rows(tmp_path / "train.jsonl", rows)


def bad_rows(path: Path, **settings: Any) -> list[str]:
    with pytest.raises(DataError) as raised:
        read_manifest(path, speech(path, **settings), setting="data.train")
    return [problem.message for problem in raised.value.problems]


def test_rows_become_utterances(manifest: Path) -> None:
    audio = manifest.parent / "audio"
    assert read_manifest(manifest, speech(manifest)) == [
        Utterance(audio / "a.flac", 0.0, duration_s=2.0, text="one two"),
        Utterance(audio / "b.wav", 0.5, duration_s=1.0, text="three"),
        Utterance(audio / "b.wav", 1.5, duration_s=0.5, text="four"),
    ]


def test_written_manifest_reads_back(manifest: Path) -> None:
    found = read_manifest(manifest, speech(manifest))
    again = manifest.with_name("again.jsonl")
    write_manifest(again, found, extra=[{"speaker": "é"}] * 3)
    assert read_manifest(again, speech(again)) == found
    assert '"audio/a.flac"' in again.read_text(encoding="utf-8")
    assert "é" in again.read_text(encoding="utf-8")


BAD: list[tuple[dict[str, Any] | str, str]] = [
    ("{not json", "invalid JSON (Expecting property name enclosed in double quotes at column 2)"),
    ("[1, 2]", "expected a JSON object like {...}, found [1, 2]"),
    ({"text": "one"}, "'path' is missing, found 'text'"),
    ({"sound": "a.flac", "text": "one"}, "'path' is missing, found 'sound', 'text'"),
    ({"path": "a.flac"}, "'text' is missing, found 'path'"),
    ({"path": 3, "text": None}, "path must be text, found 3; text must be text, found None"),
    ({"path": "", "text": "one"}, "path is empty"),
    ({"path": "a.flac", "text": "one", "duraton": 1}, "unknown key 'duraton', did you mean 'duration'?"),
    ({"path": "a.flac", "text": "one", "start": "0"}, "start must be a number of seconds, found '0'"),
    ({"path": "a.flac", "text": "one", "start": True}, "start must be a number of seconds, found True"),
    ('{"path": "a.flac", "text": "one", "duration": NaN}', "duration must be a number of seconds, found nan"),
    ('{"path": "a.flac", "text": "one", "duration": 1' + "0" * 400 + "}", "duration must be a number"),
    ({"path": "gone.flac", "text": "one"}, "gone.flac: can't be read as audio (it does not exist)"),
    ({"path": "noise.wav", "text": "one"}, "noise.wav: can't be read as audio ("),
    ({"path": "a.flac", "text": "one", "start": -1}, "start = -1 s must not be negative"),
    ({"path": "a.flac", "text": "one", "start": 2}, "start = 2 s, but the file ends at 2.000 s"),
    ({"path": "a.flac", "text": "one", "start": 1, "duration": 1.5}, "start + duration = 2.500 s, but the file ends"),
    ({"path": "a.flac", "text": "one", "duration": 0}, "duration = 0 s must be above 0"),
    ({"path": "a.flac", "text": ""}, "text is empty"),
    ({"path": "a.flac", "text": " ?! "}, "text ' ?! ' is empty after normalisation"),
    ({"path": "a.flac", "text": "ONE é"}, "text contains 'é', not in data.vocabulary"),
]  # fmt: skip


def test_every_bad_row_is_named_at_once_wherever_it_stands(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.flac")
    (tmp_path / "noise.wav").write_bytes(b"no audio")
    good: tuple[dict[str, Any] | str, str] = ({"path": "a.flac", "text": "one"}, "")
    for seed in range(3):
        rows = [*BAD, good, ("", ""), good]
        random.Random(seed).shuffle(rows)
        path = write_rows(tmp_path / "rows.jsonl", [row for row, _ in rows])
        found = bad_rows(path, vocabulary="enot")
        expected = [(n, text) for n, (_, text) in enumerate(rows, start=1) if text]
        assert len(found) == len(expected) == len(BAD)
        for message, (number, text) in zip(found, expected, strict=True):
            assert message.startswith(f"{path}:{number}: ")
            assert text in message


def test_several_things_wrong_with_one_row_are_one_problem(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.flac")
    row = {"path": "a.flac", "text": "", "start": 5, "duration": -1}
    assert bad_rows(write_rows(tmp_path / "m.jsonl", [row])) == [
        f"{tmp_path / 'm.jsonl'}:1: text is empty; start = 5 s, but the file ends at 2.000 s; "
        "duration = -1 s must be above 0"
    ]


def test_an_end_rounded_past_the_file_is_its_end(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.flac", 1.996)
    row = {"path": "a.flac", "text": "one", "start": 0.5, "duration": 1.5}
    (item,) = read_manifest(path := write_rows(tmp_path / "m.jsonl", [row]), speech(path))
    assert item.duration_s == pytest.approx(1.496)


def test_separators_of_lines_inside_a_text_are_spaces(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.flac")
    row = json.dumps({"path": "a.flac", "text": "one\u2028two\x85three"}, ensure_ascii=False)
    path = tmp_path / "m.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + row.encode() + b"\r\n\r\n")
    assert read_manifest(path, speech(path))[0].text == "one two three"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "m.jsonl: can't be read (No such file or directory)"),
        (b"", "m.jsonl: contains no utterances; expected a manifest with lines like"),
        (b"\xfa\xfe", "m.jsonl: not valid UTF-8 (at byte 0); convert it"),
    ],
)
def test_a_file_that_is_no_manifest(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "m.jsonl"
    if content is not None:
        path.write_bytes(content)
    (found,) = bad_rows(path)
    assert message in found


def test_an_audio_file_is_named_as_one_and_not_read_as_text(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.FLAC")
    (found,) = bad_rows(tmp_path / "a.FLAC")
    assert found.endswith("is a single audio file; expected a manifest, or the folder of the file")


def test_a_table_of_others_is_no_manifest_and_says_what_makes_one(tmp_path: Path) -> None:
    path = tmp_path / "metadata.csv"
    path.write_text("a|one\n" * 1_000)
    (found,) = bad_rows(path)
    assert found.endswith(f"make one of it with `sepdash data voice {path}`")


def test_a_folder_without_transcripts_is_refused(tmp_path: Path) -> None:
    assert "contains no *.trans.txt file; expected a manifest" in bad_rows(tmp_path)[0]


def librispeech(root: Path) -> Path:
    """Write a set of the true layout: two speakers, three chapters."""
    for speaker, chapter, texts in (
        ("84", "121123", ["GO DO YOU HEAR", "BUT IN LESS THAN FIVE MINUTES"]),
        ("84", "121550", ["BUT WITH FULL RAVISHMENT"]),
        ("1272", "128104", ["MISTER QUILTER IS THE APOSTLE", "NOR IS MISTER QUILTER'S MANNER"]),
    ):
        folder = root / speaker / chapter
        lines = []
        for number, text in enumerate(texts):
            name = f"{speaker}-{chapter}-{number:04d}"
            write_audio(folder / f"{name}.flac", 1.0 + number)
            lines.append(f"{name} {text}")
        (folder / f"{speaker}-{chapter}.trans.txt").write_text("\n".join(lines) + "\n")
    return root


def test_librispeech_folder_is_read_in_order_of_paths(tmp_path: Path) -> None:
    root = librispeech(tmp_path / "LibriSpeech" / "dev-clean")
    found = read_manifest(root, speech(root))
    assert [item.path.stem for item in found] == [
        "1272-128104-0000", "1272-128104-0001", "84-121123-0000", "84-121123-0001", "84-121550-0000",
    ]  # fmt: skip
    assert found[1] == Utterance(
        root / "1272/128104/1272-128104-0001.flac",
        0.0,
        duration_s=2.0,
        text="nor is mister quilter's manner",
    )
    assert read_manifest(root.parent, speech(root, case="upper"))[0].text == (
        "MISTER QUILTER IS THE APOSTLE"
    )


def test_everything_wrong_with_a_librispeech_folder_is_named(tmp_path: Path) -> None:
    root = librispeech(tmp_path)
    chapter = root / "84" / "121123"
    (chapter / "84-121123-0001.flac").unlink()
    write_audio(chapter / "84-121123-0009.flac")
    transcript = chapter / "84-121123.trans.txt"
    transcript.write_text(transcript.read_text() + "84-121123-0000 AGAIN\n84-121123-0002\n")
    found = bad_rows(root)
    assert [message.replace(f"{chapter}/", "") for message in found] == [
        "84-121123.trans.txt:2: 84-121123-0001.flac: can't be read as audio (it does not exist)",
        "84-121123.trans.txt:3: duplicate text for 84-121123-0000",
        "84-121123.trans.txt:4: 84-121123-0002.flac: can't be read as audio (it does not exist); "
        "text is empty",
        "84-121123-0009.flac: no transcript in 84-121123.trans.txt",
    ]


def problems(data: SpeechData) -> list[str]:
    try:
        check_data(data)
    except DataError as error:
        return [str(problem) for problem in error.problems]
    return []


def test_both_splits_are_checked_at_once(tmp_path: Path, manifest: Path) -> None:
    assert problems(speech(manifest)) == []
    valid = write_rows(tmp_path / "v.jsonl", ["{", {"path": "audio/a.flac", "text": "six"}])
    found = problems(speech(tmp_path / "nowhere.jsonl", valid))
    assert [text.partition(":")[0] for text in found] == ["data.train", "data.valid"]


def test_validation_text_must_be_of_the_training_texts_characters(manifest: Path) -> None:
    rows = [{"path": "audio/a.flac", "text": text} for text in ("two", "Six", "five oh")]
    valid = write_rows(manifest.with_name("v.jsonl"), [*rows])
    assert problems(speech(manifest, valid)) == [
        f"data.valid: {valid}:2: text contains 'i', 's', 'x', not in any training text",
        f"data.valid: {valid}:3: text contains 'i', 'v', not in any training text",
    ]
    assert problems(speech(manifest, valid, vocabulary="efhinorstuvwx")) == []


def test_many_rows_with_characters_of_no_training_text_are_one_problem(manifest: Path) -> None:
    rows = [{"path": "audio/a.flac", "text": text} for text in ["two", "six"] * 5]
    valid = write_rows(manifest.with_name("v.jsonl"), rows)
    assert problems(speech(manifest, valid)) == [
        f"data.valid: {valid}:2: text contains 'i', 's', 'x', not in any training text, and so 4 more rows, "
        "which `sepdash data check` lists"
    ]


def test_what_a_share_lacks_is_one_problem_whose_way_out_works(manifest: Path) -> None:
    rows = [
        {"path": "audio/a.flac", "text": text} for text in ("one two", "six", "five", "nine six")
    ]
    train = write_rows(manifest.with_name("t.jsonl"), rows)
    valid = write_rows(manifest.with_name("v.jsonl"), rows[1:] * 10)
    assert problems(speech(train, valid)) == []
    (found,) = problems(speech(train, valid, share=0.01))
    assert found.startswith("data.share: 0.01 leaves 1 training utterance without '")
    everything = "efinostvwx"
    assert f"set data.vocabulary to the characters of all training texts ({everything})" in found
    assert problems(speech(train, valid, share=0.01, vocabulary=everything)) == []
    # What no share has is still told by its row.
    strange = write_rows(manifest.with_name("s.jsonl"), [{"path": "audio/a.flac", "text": "jazz"}])
    assert problems(speech(train, strange, share=0.01)) == [
        f"data.valid: {strange}:1: text contains 'a', 'j', 'z', not in any training text"
    ]


def test_a_range_that_leaves_nothing_and_a_file_cut_off_are_found(manifest: Path) -> None:
    (found,) = problems(speech(manifest, min_s=2.5, max_s=3.0))
    assert "no usable training utterances, 3 of 3 utterances (3.5 s) skipped: 3 shorter" in found
    path = manifest.parent / "audio" / "a.flac"
    path.write_bytes(path.read_bytes()[:5_000])
    found = problems(speech(manifest))
    assert found
    assert all("a.flac: truncated or damaged" in text for text in found)


def test_what_is_left_out_and_shared_is_warned_of(manifest: Path) -> None:
    write_audio(manifest.parent / "c.wav")
    other = write_rows(manifest.with_name("v.jsonl"), [{"path": "c.wav", "text": "two"}])
    assert data_warnings(speech(manifest, other)) == []
    assert data_warnings(speech(manifest, other, min_s=0.75, max_s=1.5)) == [
        "data.train: 2 of 3 utterances (2.5 s) skipped: 1 shorter than data.min_s = 0.75 s, "
        "1 longer than data.max_s = 1.5 s"
    ]
    (warning,) = data_warnings(speech(manifest))
    assert warning.startswith("data.valid shares 3 of its 3 utterances with data.train")


@pytest.mark.parametrize(
    ("text", "settings", "expected"),
    [
        ("  Don\u2019t -- STOP,  now! ", {}, "don't stop now"),
        ("the boys' 'quoted' ' word", {}, "the boys' 'quoted' word"),
        ("e\u0301te\u0301 \u0939\u093f\u0928\u094d\u0926\u0940", {}, "\u00e9t\u00e9 \u0939\u093f\u0928\u094d\u0926\u0940"),
        ("One, two!", {"case": "upper"}, "ONE TWO"),
        ("One,  two!", {"case": "keep", "punctuation": "keep"}, "One, two!"),
    ],
)  # fmt: skip
def test_normalisation(text: str, settings: dict[str, Any], expected: str) -> None:
    data = speech(Path("a"), **settings)
    assert normalise(text, data) == expected
    assert normalise(expected, data) == expected


def test_vocabulary_is_that_of_the_texts_unless_given() -> None:
    assert vocabulary_of(speech(Path("a")), ["on to", "it's"]) == "'inost"
    assert vocabulary_of(speech(Path("a"), vocabulary="cab"), ["zz"]) == "abc"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_s": 5.0, "max_s": 2.0}, "data: min_s = 5.0 must be below max_s = 2.0"),
        ({"num_mels": 16}, "freq_mask_mels = 27 can mask all of num_mels = 16"),
        ({"vocabulary": "a b"}, "must list each character once, without spaces"),
        ({"vocabulary": "aa"}, "must list each character once"),
        ({"vocabulary": "ab", "tokens": "sentencepiece"}, "vocabulary requires char tokens"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=r".") as raised:
        load_config({"data": {"kind": "speech", "train": "a", "valid": "b", **settings}})
    assert message in str(raised.value)


def test_normalisation_of_ascii_is_that_of_all_characters() -> None:
    """A letter beyond ASCII takes the slow way; every printable and control character is tried."""
    data = speech(Path("a"))
    for char in map(chr, range(128)):
        text = f"x{char}y {char} {char}z'"
        assert f"{normalise(text, data)} é" == normalise(f"{text} é", data), repr(char)
