"""Rows of a store that something else may have written: every value has the type of its column, or none.

SQLite keeps whatever is put into a column. A value that can't be used becomes None where that is
allowed, else 0 or "", and the record of a run says so in its message, so that the run can still be
listed, shown and removed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from functools import cache
from math import isfinite
from typing import Any, TypeVar

from jobs.store.errors import StoreError
from jobs.store.records import EVENT_LEVELS, RUN_STATES, RunRecord

T = TypeVar("T")

_LATEST_S = 1e11  # a time of the year 5138; later ones are no dates
_MOST_TEXT = 10_000_000


def typed(kind: type[T], row: Sequence[Any]) -> T:
    """Return a row as a record of this kind; its columns are the first fields of the record."""
    values: dict[str, Any] = {}
    wrong: list[str] = []
    columns: Any = kind  # mypy doubts that a class can be the key of a cache
    for (name, type_name, optional), value in zip(_fields(columns), row, strict=False):
        if value is None and optional:
            values[name] = None
            continue
        is_time = name.endswith("_at") or name == "time"
        found = word(value) if name in _WORDS else _as_type(value, type_name, is_time=is_time)
        if found is None:
            found = None if optional and type_name not in _CHOICES else _NEUTRAL[type_name]
            wrong.append(f"{name} = {_shown(value)}")
        values[name] = found
    record = kind(**values)
    if wrong and isinstance(record, RunRecord):
        text = f"the store has values for this run that can't be used: {', '.join(wrong)}"
        return replace(record, message="; ".join(filter(None, [record.message, text])))
    return record


def json_object(text: Any, what: str) -> dict[str, Any]:
    """Return the JSON object in a column.

    Raises:
        StoreError: naming `what` it is, when it is none.
    """
    try:
        if not isinstance(text, str) or len(text) > _MOST_TEXT:
            raise ValueError("no text, or too long")
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{what} can't be read from the store: {error}") from None
    if not isinstance(values, dict):
        raise StoreError(f"{what} can't be read from the store: found {values!r:.40}")
    return values


def word(value: Any) -> str | None:
    """Return a name, a unit or a title; None where it is no text, or one that must not be printed."""
    return value if isinstance(value, str) and value.isprintable() else None


def numbers_of(text: Any) -> list[float | None]:
    """Return the JSON list of numbers in a column, None for what is none; empty where it is no list."""
    try:
        values = json.loads(text) if isinstance(text, str) and len(text) <= _MOST_TEXT else []
    except (ValueError, RecursionError):
        return []
    return (
        [value if _is_number(value) else None for value in values]
        if isinstance(values, list)
        else []
    )


def share(part: Any, whole: Any) -> float:
    """Return part / whole of two columns, from 0 to 1; 0 where they are no numbers."""
    if not (_is_number(part) and _is_number(whole)) or not whole:
        return 0.0
    return min(1.0, max(0.0, float(part / whole)))


def metrics_of(text: Any) -> dict[str, Any]:
    """Return the metrics in a column, without what is no number; none where it is no JSON object."""
    try:
        values = json_object(text, "metrics")
    except StoreError:
        return {}
    return {
        name: value
        for name, value in values.items()
        if word(name) and (value is None or _is_number(value))
    }


# What decides how other values are read and titled.
_WORDS = ("metric",)
_CHOICES: Mapping[str, tuple[str, ...]] = {"RunState": RUN_STATES, "EventLevel": EVENT_LEVELS}
_NEUTRAL: Mapping[str, Any] = {
    "int": 0, "float": 0.0, "str": "", "bool": False, "RunState": "failed", "EventLevel": "info",
}  # fmt: skip


@cache
def _fields(kind: type[Any]) -> tuple[tuple[str, str, bool], ...]:
    """Return name, type and whether it may be None, of each field; texts of few words are texts."""
    found = []
    for item in fields(kind):
        name, _, rest = str(item.type).partition(" | ")
        found.append((item.name, name if name in _NEUTRAL else "str", rest == "None"))
    return tuple(found)


def _as_type(value: Any, type_name: str, *, is_time: bool) -> Any:
    """Return a value as it should be, or None."""
    if type_name in _CHOICES:
        return value if value in _CHOICES[type_name] else None
    if type_name == "str":
        return value if isinstance(value, str) else None
    if not isinstance(value, int | float):
        return None
    if type_name == "bool":
        return bool(value)
    if type_name == "int":
        # Beyond 64 bits, SQLite could not be asked for it again.
        is_whole = isfinite(value) and value == int(value) and abs(value) < 2**63
        return int(value) if is_whole else None
    if is_time:
        return float(value) if isfinite(value) and abs(value) < _LATEST_S else None
    return float(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, float) or (
        isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
    )


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
