"""The legend of a chart: title, unit, and each line with its value, shortened to the width. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from tui.reports.formats import cells, clean, count, duration, fit, number
from tui.widgets.charts.figure import (
    CURSOR,
    DIM,
    FAINT,
    LINE,
    MARK,
    TEXT,
    TITLE,
    Line,
    Plot,
    Run,
    value_at,
)

CROSS = "×"
# Letters of a label: below the first a name is hardly known, below the second not at all.
_READABLE, _SHORTEST = 8, 4


def legend(plot: Plot, lines: Sequence[Line], *, width: int, cursor: float | None) -> list[Run]:
    """Return title, unit, labels and values, shortened if the chart is narrow; a note at its end is cut first."""
    if not plot.note:
        return _shortened(plot, lines, width=width, cursor=cursor)
    note = f"  {plot.note}"
    kept = min(cells(note), width // 3)
    runs = _shortened(plot, lines, width=width - kept, cursor=cursor)
    return [*runs, (fit(note, min(cells(note), max(kept, width - _length(runs)))), MARK)]


def _shortened(plot: Plot, lines: Sequence[Line], *, width: int, cursor: float | None) -> list[Run]:
    """Return the legend without its note.

    What is not drawn leaves first, then what is dotted, each time the last one first, before labels are cut
    below `_READABLE` letters.
    """
    runs = _legend_runs(plot, lines, cursor=cursor)
    if _length(runs) > width:
        runs = _legend_runs(plot, lines, cursor=cursor, brief=True)
    while _length(runs) > width and not all(line.drawn for line in lines):
        lines = _without_last(lines, lambda line: not line.drawn)
        runs = _legend_runs(plot, lines, cursor=cursor, brief=True)
    longest = max((cells(line.label) for line in lines), default=0)
    while _length(runs) > width and longest > _SHORTEST:
        if longest <= _READABLE and any(line.dotted for line in lines):
            lines = _without_last(lines, lambda line: line.dotted)
            longest = max((cells(line.label) for line in lines), default=0)
        else:
            longest -= 1
        runs = _legend_runs(plot, lines, cursor=cursor, brief=True, longest=longest)
    return runs


def _without_last(lines: Sequence[Line], is_meant: Callable[[Line], bool]) -> list[Line]:
    last = max(index for index, line in enumerate(lines) if is_meant(line))
    return [*lines[:last], *lines[last + 1 :]]


def _length(runs: list[Run]) -> int:
    return sum(cells(text) for text, _ in runs)


def _legend_runs(
    plot: Plot,
    lines: Sequence[Line],
    *,
    cursor: float | None,
    brief: bool = False,
    longest: int = 80,
) -> list[Run]:
    gap = " " if brief else "  "
    runs: list[Run] = [(plot.title, TITLE)]
    if plot.unit and not brief:
        runs.append((f" {plot.unit}", DIM))
    if cursor is not None and lines:
        runs.append((f"{gap}at {x_text(cursor, plot.x_unit)}", CURSOR))
    for line in lines:
        at = cursor if cursor is not None else math.inf
        finite = line.values[np.isfinite(line.values)]
        value = value_at(line, at) if cursor is not None else float(finite[-1])
        if plot.log and value is not None:
            value = 10.0**value
        mark = "┄" if line.dotted else "━"
        role = (FAINT if line.faint else LINE) + line.colour
        runs.append((f"{gap}{mark} " if line.drawn else gap, role))
        if line.label:
            label = clean(line.label)
            runs.append((f"{label if cells(label) <= longest else fit(label, longest)} ", DIM))
        if not (brief and line.dotted):
            runs.append((number(value), DIM if line.faint else TEXT))
    if plot.marks is not None and len(plot.marks):
        runs.append((f"{gap}{CROSS} {plot.marks_label}", MARK))
    return runs


def x_text(value: float, unit: str) -> str:
    """Return a place on the horizontal axis."""
    if unit.endswith("time"):
        return duration(value)
    return f"{value:.0f}" if unit == "updates" and value < 1e5 else count(value)


def fit_row(runs: list[Run], width: int) -> list[Run]:
    """Return a row padded or truncated (with an ellipsis) to exactly `width` cells."""
    out: list[Run] = []
    for text, role in runs:
        room = width - _length(out)
        if cells(text) > room:
            return [*out, (fit(text, room), role)]
        out.append((text, role))
    return [*out, (" " * (width - _length(out)), TEXT)]
