"""Claims about tables of recordings: every layout, line end and byte order mark; nothing is interpreted that is text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.config.errors import DataError
from engine.data.corpus.tables import read_table


def rows(target: Path) -> list[tuple[str, str, str]]:
    table = read_table(target)
    assert table.bad_rows == []
    return [(row.name, row.text, row.speaker) for row in table.rows]


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le-bom", "utf-16-be-bom"]
)
def test_metadata_in_any_encoding_with_any_line_ends(
    folder: Path, encoding: str, newline: str
) -> None:
    text = newline.join(
        ['a|"Quoted," she said; it\'s 5\u2019', "b|Mr. X|Mister X", "", "c|Raw only|", ""]
    )
    name = encoding.removesuffix("-bom")
    marks = {"utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff"}
    content = (
        text.encode(name) if not encoding.endswith("-bom") else marks[name] + text.encode(name)
    )
    (folder / "metadata.csv").write_bytes(content)
    assert rows(folder) == [
        ("a", '"Quoted," she said; it\'s 5\u2019', ""),
        ("b", "Mister X", ""),
        ("c", "Raw only", ""),
    ]


def test_a_quotation_mark_that_never_closes_swallows_no_row(folder: Path) -> None:
    (folder / "metadata.csv").write_text('a|"one\nb|two" "\nc|th"ree\n')
    assert [text for _, text, _ in rows(folder)] == ['"one', 'two" "', 'th"ree']


def test_separators_of_lines_inside_a_text_are_text(folder: Path) -> None:
    (folder / "metadata.csv").write_text("a|one\u2028two\x0bthree\n", encoding="utf-8")
    assert [text for _, text, _ in rows(folder)] == ["one\u2028two\x0bthree"]


def test_lists_with_and_without_speakers(folder: Path) -> None:
    (folder / "train.txt").write_text("wavs\\a.wav|one\nwavs/b.wav|two|theo\n")
    (folder / "validation.txt").write_text("wavs/c.wav|three|anna\n")
    assert rows(folder) == [
        ("wavs\\a.wav", "one", ""), ("wavs/b.wav", "two", "theo"), ("wavs/c.wav", "three", "anna"),
    ]  # fmt: skip
    assert [row.held_out for row in read_table(folder).rows] == [False, False, True]
    assert rows(folder / "train.txt") == rows(folder)[:2]


def test_a_list_whose_second_field_is_a_number_is_that_of_vits(folder: Path) -> None:
    (folder / "train.txt").write_text("a.wav|7|one two\nb.wav|12|three\n")
    assert rows(folder) == [("a.wav", "one two", "7"), ("b.wav", "three", "12")]
    (folder / "train.txt").write_text("a.wav|7|anna\nb.wav|twelve|anna\n")
    assert rows(folder) == [("a.wav", "7", "anna"), ("b.wav", "twelve", "anna")]


def test_a_first_row_that_names_columns_is_followed(folder: Path) -> None:
    (folder / "metadata.csv").write_text(
        "speaker_name|text|audio_file\nanna|one|x.wav\ntheo|two|y.wav\n"
    )
    assert rows(folder) == [("x.wav", "one", "anna"), ("y.wav", "two", "theo")]


@pytest.mark.parametrize(
    "values",
    [
        {"path": "a.wav", "text": "one", "speaker": "x"},
        {"audio_filepath": "a.wav", "text": "one", "speaker": "x", "offset": 0, "duration": 2},
        {"audio": "a.wav", "transcript": "one", "speaker_id": "x"},
        {"audio": {"path": "a.wav", "array": None}, "sentence": "one", "client_id": "x"},
        {"file_name": "a.wav", "transcription": "one", "speaker_name": "x"},
    ],
)
def test_json_by_any_usual_name(folder: Path, values: dict[str, object]) -> None:
    line = json.dumps(values)
    for name, text in (
        ("m.jsonl", f"\ufeff{line}\r\n\r\n{line}\r\n"),
        ("metadata.json", f"[{line}, {line}]"),
    ):
        (folder / name).write_text(text, encoding="utf-8")
        assert rows(folder / name) == [("a.wav", "one", "x")] * 2


def test_parts_of_files_and_numbers_as_speakers(folder: Path) -> None:
    row = {
        "path": "a.wav",
        "text": "one",
        "speaker": 7,
        "start": 1.5,
        "duration": 2,
        "phonemes": {"de": "x"},
    }
    (folder / "m.jsonl").write_text(json.dumps(row))
    (found,) = read_table(folder).rows
    assert (found.speaker, found.start_s, found.duration_s) == ("7", 1.5, 2.0)
    assert found.phonemes == {"de": "x"}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("metadata.csv", "a,one", r"metadata.csv:1: has no `|`; expected id|text"),
        ("metadata.csv", "a|b|c|d", "4 fields, expected at most 3; a text must not contain `|`"),
        ("train.txt", " |one", "train.txt:1: names no audio file"),
        ("m.jsonl", "{", "m.jsonl:1: invalid JSON"),
        ("m.jsonl", "[1, 2]", "m.jsonl, item 1: expected a JSON object"),
        (
            "m.jsonl",
            '{"txet": "one"}',
            "'path' is missing (or audio_filepath, audio, audio_file), found 'txet'",
        ),
        ("m.jsonl", '{"path": "a", "text": 3}', "text must be text, found 3"),
        (
            "m.jsonl",
            '{"path": "a", "text": "b", "start": "x"}',
            "start must be a number of seconds",
        ),
        (
            "m.jsonl",
            '{"path": "a", "text": "b", "duration": NaN}',
            "duration must be a number of seconds",
        ),
    ],
)
def test_rows_that_are_none_are_named_and_the_others_read(
    folder: Path, name: str, text: str, message: str
) -> None:
    (folder / name).write_text(text)
    table = read_table(folder)
    assert message in table.bad_rows[0]
    good = {"metadata.csv": "b|two", "train.txt": "b|two"}.get(name, '{"path": "b", "text": "two"}')
    if not text.startswith("["):
        (folder / name).write_text(f"{text}\n{good}\n")
        assert [row.text for row in read_table(folder).rows] == ["two"]


def test_what_can_not_be_read_says_why(folder: Path) -> None:
    (folder / "metadata.csv").write_bytes("a|Grün".encode("latin-1"))
    assert "not valid UTF-8 (at byte 4); convert it" in read_table(folder).bad_rows[0]


def test_no_table_and_several_are_refused_with_what_to_do(folder: Path) -> None:
    with pytest.raises(
        DataError, match=r"has no table of texts; expected metadata.csv .*`sepdash data cut`"
    ):
        read_table(folder)
    (folder / "metadata.csv").write_text("a|b")
    (folder / "train.txt").write_text("a|b")
    with pytest.raises(
        DataError, match=r"several tables of texts \(metadata.csv, train.txt\); name the one"
    ):
        read_table(folder)
    (folder / "theo").mkdir()
    (folder / "train.txt").rename(folder / "theo" / "train.txt")
    (folder / "metadata.csv").unlink()
    with pytest.raises(
        DataError, match=r"no table of texts; .* its folders theo have some: name them, as in"
    ):
        read_table(folder)
    (folder / "theo" / "sepdash-index.jsonl").write_text("{}")
    assert len(read_table(folder / "theo").rows) == 1
    with pytest.raises(DataError, match="does not exist; name a folder or a table"):
        read_table(folder / "nothing")
    (folder / "a.wav").write_bytes(b"")
    with pytest.raises(DataError, match="is an audio file; name its folder"):
        read_table(folder / "a.wav")
