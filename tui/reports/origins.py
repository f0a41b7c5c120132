"""The table of a run's settings with what set each of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tui.reports.formats import cells, padded

if TYPE_CHECKING:
    from jobs.sweeps.origins import SettingOrigin
    from presets.origins import ValueOrigin

HEADERS = ("SETTING", "VALUE", "SET BY")
_WIDEST = 48


def rows(settings: Sequence[SettingOrigin]) -> list[list[str]]:
    """Return a row for each setting; long values are cut."""
    return [[item.key, _value(item.value), _set_by(item.origin)] for item in settings]


def files(settings: Sequence[SettingOrigin]) -> list[str]:
    """Return a line for each file that set something: its name in the table, and its path."""
    paths = {
        _file(item.origin): item.origin.path for item in settings if item.origin.path is not None
    }
    width = max(map(cells, paths), default=0)
    return [f"{padded(name, width)}  {path}" for name, path in sorted(paths.items())]


def record(item: SettingOrigin) -> dict[str, Any]:
    """Return a setting as JSON has it."""
    origin = item.origin
    return {
        "key": item.key, "value": item.value, "source": origin.source, "name": origin.name,
        "layer": origin.layer, "path": origin.path, "line": origin.line,
    }  # fmt: skip


def _value(value: Any) -> str:
    text = "none" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 1]}…"


def _set_by(origin: ValueOrigin) -> str:
    if origin.source == "option":
        return f"--set {origin.name}"
    if origin.path is None:
        return origin.source
    place = {
        "experiment": ", [set]",
        "variant": f", variant {origin.name}",
        "grid": ", [grid]",
        "match": f", matched to {origin.name}",
        "seeds": ", seeds",
    }.get(origin.source, "")
    line = f", line {origin.line}" if origin.line is not None else ""
    return f"{_file(origin)}{place}{line}"


def _file(origin: ValueOrigin) -> str:
    assert origin.path is not None
    return f"{origin.name} ({origin.layer})" if origin.layer else origin.path.name
