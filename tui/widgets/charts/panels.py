"""A chart of several plots: panels, one below the other, or a note. Pure functions.

Runs whose values don't mean the same have panels with axes of their own where the chart is high enough.
Elsewhere the first one is drawn (that of the selected run), and a note says which runs are not, and why.
What else is measured of the same runs, such as the terms of a loss, has panels below that share an axis, as
many as there is room for; then a hint takes the place of the note, and the values of the rest follow it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from tui.reports.formats import cells, clean, fit, number
from tui.widgets.charts.figure import CURSOR, DIM, MARK, Plot, Run, value_at
from tui.widgets.charts.legend import fit_row
from tui.widgets.charts.plot import compose, cursor_x

# Rows below which a panel can't be read.
_ROWS = 8
# The same of a panel that leaves the labels of its axis to another one.
_ROWS_BELOW = 4
# Rows of a chart that has one to spare for the note.
_WITH_NOTE = 6


def compose_panels(
    plot: Plot, size: tuple[int, int], *, cursor: float | None = None
) -> list[list[Run]]:
    """Return the rows of text runs of a chart of `size` (width, height) cells."""
    width, height = size
    rows = [
        row for part, count in _layout(plot, height) for row in compose(part, width, count, cursor)
    ]
    if _has_note(plot, height):
        rows.insert(1, _note_row(plot, size, cursor=cursor))
    return rows


def x_under(plot: Plot, size: tuple[int, int], *, column: int, row: int) -> float | None:
    """Return the x value under a cell of a chart of `size` (width, height), None outside the areas."""
    width, height = size
    if _has_note(plot, height) and row > 0:
        row -= 1
    for part, count in _layout(plot, height):
        if row < count:
            return cursor_x(part, width, count, column)
        row -= count
    return None


def _layout(plot: Plot, height: int) -> list[tuple[Plot, int]]:
    """Return the plots that are drawn and the rows of each."""
    if plot.below:
        free = height - _has_note(plot, height)
        *upper, last = [replace(plot, note=""), *plot.below][: _num_panels(plot, height)]
        rows = _shares(free - 1, len(upper) + 1)
        return [
            *((replace(part, axis=False), count) for part, count in zip(upper, rows, strict=False)),
            (last, rows[-1] + 1),
        ]
    left_out = _left_out(plot, height)
    drawn = plot.apart[: len(plot.apart) - len(left_out)]
    plots = [
        plot,
        *(part if part.title == plot.title else replace(part, note="") for part in drawn),
    ]
    if left_out and height < _WITH_NOTE:
        plots[0] = replace(plot, note=f"+{sum(len(_names(part)) for part in left_out)} apart")
    rows = _shares(height - _has_note(plot, height), len(plots))
    return list(zip(plots, rows, strict=True))


def _shares(rows: int, num: int) -> list[int]:
    """Return the rows of each of `num` panels, the first ones with one more where they don't come out even."""
    share, more = divmod(max(0, rows), num)
    return [share + (index < more) for index in range(num)]


def _num_panels(plot: Plot, height: int) -> int:
    """Return how many plots of the same runs are drawn one below the other."""
    rows = height - _has_note(plot, height) - 1
    return max(1, min(1 + len(plot.below), rows // _ROWS_BELOW))


def _has_note(plot: Plot, height: int) -> bool:
    return height >= _WITH_NOTE and bool(plot.hint or _left_out(plot, height))


def _note_row(plot: Plot, size: tuple[int, int], *, cursor: float | None) -> list[Run]:
    """Return the note on what is not drawn; without one the hint, and the values that are in no panel."""
    width, height = size
    if left_out := _left_out(plot, height):
        return [(_note(left_out, width), MARK)]
    row, free = [(plot.hint, CURSOR)], width - cells(plot.hint)
    for part in plot.below[_num_panels(plot, height) - 1 :]:
        line = next((line for line in part.lines if line.drawn and len(line.x)), None)
        value = value_at(line, math.inf if cursor is None else cursor) if line else None
        text = f"  {part.title} {number(value)}"
        if cells(text) > free:
            break
        row.append((text, DIM))
        free -= cells(text)
    return fit_row(row, width)


def _left_out(plot: Plot, height: int) -> tuple[Plot, ...]:
    if plot.below:
        return plot.apart
    drawn = max(1, min(1 + len(plot.apart), height // _ROWS))
    return plot.apart[drawn - 1 :]


def _names(plot: Plot) -> list[str]:
    return [clean(line.label) for line in plot.lines if not line.dotted]


def _note(left_out: Sequence[Plot], width: int) -> str:
    """Return which runs are not drawn and why; where there is no room for names, how many, and why."""
    full = "; ".join(f"{', '.join(_names(part))} ({part.note})" for part in left_out)
    number = sum(len(_names(part)) for part in left_out)
    why = "; ".join(dict.fromkeys(part.note for part in left_out))
    texts = (f"not shown: {full}", f"{number} not shown: {why}")
    return fit(next((text for text in texts if cells(text) <= width), texts[-1]), width)
