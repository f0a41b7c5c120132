"""Tables of recordings with their texts, as people have them: LJSpeech, lists of files, JSON lines. Free of torch.

- `metadata.csv`: `id|text` or `id|text|normalised text`, without quoting: a quotation mark is a quotation mark.
- `train.txt` (and `validation.txt`): `path|text` or `path|text|speaker`, or as in VITS `path|number|text`.
- JSON lines (or one JSON list) with the usual names of keys.

UTF-8 or UTF-16 with or without a byte order mark, any line ends. Owns these layouts and the messages about rows;
which file a name means is said in `engine.data.corpus.names`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from engine.config.errors import DataError, Problem
from engine.data.files.audio_files import EXTENSIONS
from engine.data.files.index import INDEX_NAME
from engine.data.files.manifest_keys import own_keys, unencodable
from engine.data.files.text_files import lines_of, text_of
from models.folders import walk

Layout = Literal["metadata", "list", "json"]

_METADATA = ("metadata.csv", "metadata.txt")
_LISTS = ("train.txt", "train_list.txt", "filelist.txt")
_HELD_OUT = ("validation.txt", "valid.txt", "val.txt", "val_list.txt")
_JSON = (".jsonl", ".ndjson")
_JSON_LISTS = ("metadata.json", "manifest.json", "train.json", "valid.json")
# What others call a column or key -> what it is here.
_NAMES: Mapping[str, tuple[str, ...]] = {
    "path": (
        "path", "audio_filepath", "audio", "audio_file", "audio_path", "file", "file_name", "filename", "wav",
        "wav_path", "wav_filename", "id",
    ),
    "text": ("text", "transcript", "transcription", "sentence", "normalized_text", "label", "raw_text"),
    "speaker": ("speaker", "speaker_name", "speaker_id", "client_id", "voice"),
    "start": ("start", "offset"),
    "duration": ("duration",),
}  # fmt: skip
_MOST_FIELDS = 3


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table; `name` is what it calls its audio, `held_out` whether it is in a list for validation."""

    place: str
    name: str
    text: str
    speaker: str = ""
    start_s: float = 0.0
    duration_s: float | None = None
    held_out: bool = False
    phonemes: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Table:
    """What the tables of a folder hold: their rows, and why others can't be read."""

    folder: Path
    files: tuple[Path, ...]
    layout: str = ""
    rows: list[Row] = field(default_factory=list)
    bad_rows: list[str] = field(default_factory=list)


def read_table(target: Path) -> Table:
    """Read a table, or those of a folder.

    Args:
        target: a folder, or one table in it.

    Raises:
        DataError: when there is none, or more than one that could be meant.
    """
    files, layout = _tables_of(target)
    table = Table(files[0].parent, files)
    for file in files:
        held_out = _is_held_out(file)
        rows = (
            _json_rows(file, table.bad_rows)
            if layout == "json"
            else _rows(file, layout, table=table)
        )
        table.rows += [_held_out(row) if held_out else row for row in rows]
    kinds = {"metadata": "LJSpeech metadata", "list": "file list", "json": "JSON lines"}
    table.layout = f"{kinds[layout]} ({', '.join(file.name for file in files)})"
    return table


def _held_out(row: Row) -> Row:
    return Row(
        row.place, row.name, row.text, speaker=row.speaker, start_s=row.start_s,
        duration_s=row.duration_s, held_out=True, phonemes=row.phonemes,
    )  # fmt: skip


def _is_held_out(file: Path) -> bool:
    return file.name in _HELD_OUT or file.stem in ("valid", "validation", "val", "dev", "test")


def _tables_of(target: Path) -> tuple[tuple[Path, ...], Layout]:
    """Return the files to read, and their layout."""
    if target.is_file():
        return (target,), _layout_of(target)
    if not target.is_dir():
        raise DataError(
            [Problem("", f"{target} does not exist; name a folder or a table of texts")]
        )
    given = _tables_in(target)
    if not given:
        folders = walk(target, depth=2).folders
        below = [str(path.relative_to(target)) for path in folders if _tables_in(path)]
        hint = (
            f"its folders {', '.join(below[:5])} have some: name them, as in {target / below[0]}"
            if below
            else "or name the table itself. For recordings without texts, see `sepdash data cut`"
        )
        message = (
            f"{target} has no table of texts; expected metadata.csv (id|text), train.txt (path|text) or a .jsonl "
            f"file beside the audio, {hint}"
        )
        raise DataError([Problem("", message)])
    if len(given) > 1 or len(given.get("metadata", ())) > 1:
        listed = [name for files in given.values() for name in files]
        message = (
            f"{target} has several tables of texts ({', '.join(listed)}); name the one to read, for example "
            f"{target / listed[0]}"
        )
        raise DataError([Problem("", message)])
    ((layout, files),) = given.items()
    return tuple(target / name for name in files), layout


def _tables_in(folder: Path) -> dict[Layout, list[str]]:
    """Return the names of the tables that lie directly in a folder, by layout."""
    names = [path.name for path in walk(folder, depth=1).files if path.is_file()]
    found: dict[Layout, list[str]] = {
        "metadata": [name for name in _METADATA if name in names],
        "list": [name for name in (*_LISTS, *_HELD_OUT) if name in names],
        "json": [
            name
            for name in names
            if (name.endswith(_JSON) and name != INDEX_NAME) or name in _JSON_LISTS
        ],
    }
    return {layout: files for layout, files in found.items() if files}


def _layout_of(file: Path) -> Layout:
    if file.suffix.lower() in EXTENSIONS:
        raise DataError(
            [Problem("", f"{file} is an audio file; name its folder or a table of texts")]
        )
    if file.suffix.lower() in (*_JSON, ".json"):
        return "json"
    return "metadata" if file.suffix.lower() == ".csv" or file.name in _METADATA else "list"


def _rows(file: Path, layout: Layout, *, table: Table) -> Iterator[Row]:
    """Yield the rows of a table whose fields are divided by `|`."""
    lines = [
        (f"{file}:{number}", line.split("|")) for number, line in lines_of(file, table.bad_rows)
    ]
    columns = _columns(lines[0][1]) if lines else {}
    if columns:
        del lines[0]
    elif layout == "list" and lines and all(_is_vits(fields) for _, fields in lines):
        columns = {"path": 0, "speaker": 1, "text": 2}
    for place, fields in lines:
        number = len(fields)
        if columns:
            problem = (
                ""
                if number > max(columns.values())
                else f"{number} fields, fewer than the first row names"
            )
        elif number == 1:
            problem = f"has no `|`; expected {'id|text' if layout == 'metadata' else 'path|text'}"
        else:
            problem = (
                "" if number <= _MOST_FIELDS
                else f"{number} fields, expected at most {_MOST_FIELDS}; a text must not contain `|`"
            )  # fmt: skip
        if not problem and not fields[columns.get("path", 0)].strip():
            problem = "names no audio file"
        if problem:
            table.bad_rows.append(f"{place}: {problem}")
        else:
            yield _row_of(place, [text.strip() for text in fields], layout=layout, columns=columns)


def _row_of(
    place: str, fields: Sequence[str], *, layout: Layout, columns: Mapping[str, int]
) -> Row:
    if columns:
        speaker = fields[columns["speaker"]] if "speaker" in columns else ""
        return Row(place, fields[columns["path"]], text=fields[columns["text"]], speaker=speaker)
    third = fields[2] if len(fields) > 2 else ""
    if layout == "metadata":
        return Row(place, fields[0], text=third or fields[1])
    return Row(place, fields[0], text=fields[1], speaker=third)


def _columns(fields: Sequence[str]) -> dict[str, int]:
    """Return which column is what, if the first row names them; nothing for a row of data."""
    found: dict[str, int] = {}
    for place, name in enumerate(fields):
        for meaning, names in _NAMES.items():
            if name.strip().lower() in names:
                found.setdefault(meaning, place)
    return found if {"path", "text"} <= set(found) else {}


def _is_vits(fields: Sequence[str]) -> bool:
    return (
        len(fields) == _MOST_FIELDS
        and fields[1].strip().isdecimal()
        and not fields[2].strip().isdecimal()
    )


def _json_rows(file: Path, bad_rows: list[str]) -> Iterator[Row]:
    for place, values in _objects(file, bad_rows):
        try:
            yield _row_of_values(place, values)
        except ValueError as error:
            bad_rows.append(f"{place}: {error}")


def _objects(file: Path, bad_rows: list[str]) -> Iterator[tuple[str, Any]]:
    """Yield ("file:line", value) of JSON lines, or ("file, item 3", value) of one JSON list."""
    text = text_of(file, bad_rows) or ""
    if text.lstrip()[:1] == "[":
        try:
            items = json.loads(text)
        except (json.JSONDecodeError, RecursionError) as error:
            bad_rows.append(f"{file}: invalid JSON ({error})")
            return
        yield from (
            (f"{file}, item {number}", value) for number, value in enumerate(items, start=1)
        )
        return
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            yield f"{file}:{number}", json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            why = (
                f"{error.msg} at column {error.colno}"
                if isinstance(error, json.JSONDecodeError)
                else "too deep"
            )
            bad_rows.append(f"{file}:{number}: invalid JSON ({why})")


def _row_of_values(place: str, values: Any) -> Row:
    if not isinstance(values, dict):
        raise ValueError(f"expected a JSON object like {{...}}, found {values!r:.60}")
    values = own_keys(values)
    if problems := "; ".join(unencodable(values)):
        raise ValueError(problems)
    found: dict[str, Any] = {}
    for meaning, names in _NAMES.items():
        given = next((name for name in names if values.get(name) is not None), None)
        if given is not None:
            found[meaning] = values[given]
        elif meaning in ("path", "text"):
            keys = ", ".join(map(repr, values)) or "no keys"
            raise ValueError(
                f"{meaning!r} is missing (or {', '.join(names[1:4])}), found {keys:.120}"
            )
    if isinstance(found["path"], dict):  # as the library datasets writes it
        found["path"] = found["path"].get("path")
    for meaning in ("path", "text"):
        if not isinstance(found[meaning], str):
            raise ValueError(f"{meaning} must be text, found {found[meaning]!r:.60}")
    if not found["path"].strip():
        raise ValueError("names no audio file")
    phonemes = values.get("phonemes")
    known = isinstance(phonemes, dict) and all(isinstance(text, str) for text in phonemes.values())
    return Row(
        place, found["path"].strip(), text=found["text"].strip(),
        speaker=str(found.get("speaker", "")).strip(), start_s=_seconds(found, "start") or 0.0,
        duration_s=_seconds(found, "duration"), phonemes=dict(phonemes) if known and phonemes else {},
    )  # fmt: skip


def _seconds(values: Mapping[str, Any], key: str) -> float | None:
    value = values.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
        raise ValueError(f"{key} must be a number of seconds, found {value!r:.60}")
    return float(value)
