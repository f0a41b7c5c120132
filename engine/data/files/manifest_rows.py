"""Rows of a manifest of audio, whoever wrote it, and what is wrong with a row.

Shared by speech with texts and audio without; which keys a row needs is theirs to say. Free of torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.config.errors import nearest
from engine.data.files.foreign_tables import (
    TABLES,
    kaldi_folder,
    kaldi_rows,
    lhotse_path,
    table_rows,
)
from engine.data.files.manifest_keys import own_keys, unencodable
from engine.data.files.text_files import lines_of

_LONGEST_S = 1e9  # longer than any recording; NaN, infinity and integers beyond float fail, too
ROUNDING_S = 0.01  # manifests round to 0.01 s; an end this far past the file's end is accepted


def rows_of(
    path: Path, bad_rows: list[str], *, keys: Sequence[str], texts: Sequence[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield ("file:line", values) of the rows of a manifest whose keys are in order.

    Whoever wrote the manifest (`engine.data.files.manifest_keys`, `engine.data.files.foreign_tables`),
    the keys are sepdash's own.

    Args:
        path: the manifest, or a folder of Kaldi.
        bad_rows: takes what is wrong with the others.
        keys: as in `wrong_keys`.
        texts: as there.
    """
    for place, values in objects_of(path, bad_rows):
        try:
            own = own_keys(values)
        except ValueError as error:
            bad_rows.append(f"{place}: {error}")
            continue
        if problems := [*wrong_keys(own, keys, texts=texts), *unencodable(own)]:
            bad_rows.append(f"{place}: {'; '.join(problems)}")
            continue
        if "sources" in values or "recording" in values:
            own["path"] = lhotse_path(own["path"], path.parent)
        yield place, own


def objects_of(path: Path, bad_rows: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield ("file:line", values) of the rows of a manifest, with the keys that it has.

    Args:
        path: JSON lines, a table with named columns, or a folder of Kaldi.
        bad_rows: takes what is wrong with others.
    """
    if (folder := kaldi_folder(path)) is not None:
        yield from kaldi_rows(folder, bad_rows)
        return
    if path.suffix.lower() in TABLES:
        yield from table_rows(path, bad_rows)
        return
    for number, line in lines_of(path, bad_rows):
        place = f"{path}:{number}"
        try:
            values = json.loads(line)
        except json.JSONDecodeError as error:
            bad_rows.append(f"{place}: invalid JSON ({error.msg} at column {error.colno})")
            continue
        except (ValueError, RecursionError) as error:
            bad_rows.append(f"{place}: invalid JSON ({error})")
            continue
        if isinstance(values, dict):
            yield place, values
        else:
            bad_rows.append(f"{place}: expected a JSON object like {{...}}, found {values!r:.60}")


def wrong_keys(
    values: Mapping[str, Any], keys: Sequence[str], *, texts: Sequence[str]
) -> Iterator[str]:
    """Describe what is wrong with the keys of a row and their types.

    Args:
        values: the row.
        keys: all keys that are read; `start` and `duration` are seconds.
        texts: those that must be there, and be text.
    """
    absent = [key for key in keys if key not in values]
    others = [key for key in values if key not in keys]
    for key in absent:
        # Other keys are fine, except misspellings of this one.
        meant = next((name for name in others if nearest(name, [key])), None)
        if meant is not None:
            yield f"unknown key {meant!r}, did you mean {key!r}?"
        elif key in texts:
            yield f"{key!r} is missing, found {', '.join(map(repr, values)) or 'no keys'}"
    for key in texts:
        if key in values and not isinstance(values[key], str):
            yield f"{key} must be text, found {values[key]!r:.60}"
    if values.get("path") == "":
        yield "path is empty"
    for key in ("start", "duration"):
        value = values.get(key, 0.0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not _is_sane(value):
            yield f"{key} must be a number of seconds, found {value!r:.60}"


def outside(start_s: float, duration_s: float | None, *, length_s: float | None) -> Iterator[str]:
    """Describe a part that is not inside its file, whose length may be unknown."""
    end_s = start_s + (duration_s or 0.0)
    if start_s < 0:
        yield f"start = {start_s:g} s must not be negative"
    elif length_s is not None and start_s >= length_s:
        yield f"start = {start_s:g} s, but the file ends at {length_s:.3f} s"
    elif length_s is not None and end_s > length_s + ROUNDING_S:
        yield f"start + duration = {end_s:.3f} s, but the file ends at {length_s:.3f} s"
    if duration_s is not None and duration_s <= 0:
        yield f"duration = {duration_s:g} s must be above 0"


def _is_sane(seconds: float) -> bool:
    return abs(seconds) < _LONGEST_S
