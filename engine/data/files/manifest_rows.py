"""Rows of a JSON-lines manifest of audio: the lines of the file, and what is wrong with a row.

Shared by speech with texts and audio without; which keys a row needs is theirs to say. Free of torch.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.config.errors import nearest
from engine.data.files.audio_files import EXTENSIONS

_LONGEST_S = 1e9  # longer than any recording; NaN, infinity and integers beyond float fail, too
ROUNDING_S = 0.01  # manifests round to 0.01 s; an end this far past the file's end is accepted


def lines_of(path: Path, bad_rows: list[str]) -> Iterator[tuple[int, str]]:
    """Yield (number from 1, line) of the non-empty lines of a text file.

    Args:
        path: the file.
        bad_rows: takes the reason why it can't be read.
    """
    # Not splitlines: a JSON string may contain other line separators.
    for number, line in enumerate((text_of(path, bad_rows) or "").split("\n"), start=1):
        if line.strip():
            yield number, line.strip()


def text_of(path: Path, bad_rows: list[str]) -> str | None:
    """Return a text file, with plain line feeds: UTF-8, or UTF-16 with a byte order mark; None if it is neither.

    Args:
        path: the file.
        bad_rows: takes the reason why it can't be read.
    """
    if path.suffix.lower() in EXTENSIONS:
        bad_rows.append(
            f"{path}: is a single audio file; expected a manifest, or the folder of the file"
        )
        return None
    try:
        content = path.read_bytes()
    except OSError as error:
        bad_rows.append(f"{path}: can't be read ({error.strerror})")
        return None
    encoding = (
        "utf-16" if content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
    )
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        name = "UTF-16" if encoding == "utf-16" else "UTF-8"
        bad_rows.append(f"{path}: not valid {name} (at byte {error.start}); convert it")
        return None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def rows_of(
    path: Path,
    bad_rows: list[str],
    *,
    keys: Sequence[str],
    texts: Sequence[str],
    stand_ins: Mapping[str, str] | None = None,
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield ("file:line", values) of the rows of a manifest whose keys are in order.

    Args:
        path: the manifest.
        bad_rows: takes what is wrong with the others.
        keys: as in `wrong_keys`.
        texts: as there.
        stand_ins: a key -> another one whose value it takes where it is absent.
    """
    for number, line in lines_of(path, bad_rows):
        place = f"{path}:{number}"
        try:
            values = json.loads(line)
        except json.JSONDecodeError as error:
            bad_rows.append(f"{place}: invalid JSON ({error.msg} at column {error.colno})")
            continue
        if not isinstance(values, dict):
            bad_rows.append(f"{place}: expected a JSON object like {{...}}, found {values!r:.60}")
            continue
        for key, other in (stand_ins or {}).items():
            if key not in values and other in values:
                values[key] = values[other]
        if problems := list(wrong_keys(values, keys, texts=texts)):
            bad_rows.append(f"{place}: {'; '.join(problems)}")
        else:
            yield place, values


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
