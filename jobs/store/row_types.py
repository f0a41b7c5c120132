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
from jobs.store.records import RunRecord

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
        found = _as_type(value, type_name, is_time=name.endswith("_at") or name == "time")
        if found is None:
            found = None if optional else _NEUTRAL[type_name]
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


def metrics_of(text: Any) -> dict[str, Any]:
    """Return the metrics in a column, without what is no number; none where it is no JSON object."""
    try:
        values = json_object(text, "metrics")
    except StoreError:
        return {}
    return {
        name: value
        for name, value in values.items()
        if value is None or (isinstance(value, int | float) and not isinstance(value, bool))
    }


_NEUTRAL: Mapping[str, Any] = {"int": 0, "float": 0.0, "str": "", "bool": False}


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
    if type_name == "str":
        return value if isinstance(value, str) else None
    if not isinstance(value, int | float):
        return None
    if type_name == "bool":
        return bool(value)
    if type_name == "int":
        return int(value) if isfinite(value) and value == int(value) else None
    if is_time:
        return float(value) if isfinite(value) and abs(value) < _LATEST_S else None
    return float(value)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
