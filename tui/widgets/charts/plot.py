"""A chart as rows of coloured text runs: axes, legend, curves, crosshair. Pure functions, no widget.

Earlier lines are painted over later ones, cell by cell, so a curve is never mixed with another's
colour. A band (low to high of each column) is painted faintly under its line.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from tui.reports.formats import count, duration, number
from tui.widgets.charts import braille
from tui.widgets.charts.braille import BitArray, FloatArray
from tui.widgets.charts.figure import (
    CURSOR,
    DIM,
    FAINT,
    GRID,
    LEARNING_RATE,
    LINE,
    MARK,
    TEXT,
    Line,
    Plot,
    Run,
    scaled,
    x_range,
    y_range,
)
from tui.widgets.charts.legend import CROSS, fit_row, legend


@dataclass(slots=True)
class Area:
    """The cells of the plotting area, and the scales that map values to them."""

    width: int
    height: int
    x: tuple[float, float]
    y: tuple[float, float]
    chars: NDArray[np.uint32] = field(init=False)
    roles: NDArray[np.int8] = field(init=False)

    def __post_init__(self) -> None:
        self.chars = np.full((self.height, self.width), ord(" "), dtype=np.uint32)
        self.roles = np.zeros((self.height, self.width), dtype=np.int8)

    def paint(self, bits: BitArray, role: int) -> None:
        """Paint braille `bits` (H, W) over the existing cells."""
        mask = bits > 0
        self.chars[mask] = braille.BLANK + bits[mask].astype(np.uint32)
        self.roles[mask] = role

    def row_of(self, value: float) -> int:
        """Return the cell row of a y value."""
        low, high = self.y
        dots = self.height * 4 - 1
        dot = round(dots * (1.0 - (value - low) / max(high - low, 1e-300)))
        return min(dots, max(0, dot)) // 4

    def cell_of(self, x: float) -> int:
        """Return the cell column of an x value; may lie outside the area."""
        return int(braille.column_of(np.array([x]), *self.x, self.width * 2)[0]) // 2


def compose(plot: Plot, width: int, height: int, cursor: float | None = None) -> list[list[Run]]:
    """Return `height` rows of text runs, each `width` cells; `cursor` is an x value to read at."""
    plot = scaled(plot)
    shown = [line for line in plot.lines if np.isfinite(line.mean).any()]
    lines = [line for line in shown if line.drawn]
    rows: list[list[Run]] = (
        [fit_row(legend(plot, shown, width=width, cursor=cursor), width)] if height > 0 else []
    )
    inner = height - 1 - plot.axis
    if not lines or inner < 1 or width < 16:
        blank = [[(" " * width, TEXT)] for _ in range(height - len(rows))]
        if len(blank) and not lines:
            blank[(len(blank) - 1) // 2] = [(plot.empty[:width].center(width), DIM)]
        return rows + blank
    y = y_range(lines, plot.from_zero)
    labels, gutter = _y_labels(plot, y, rows=inner)
    area = Area(width - gutter, inner, x=plot.x_range or x_range(lines), y=y)
    _draw(area, lines, labels=labels, cursor=cursor)
    _draw_marks(area, plot.marks)
    by_row = {area.row_of(value): text for value, text in reversed(labels)}
    for row in range(area.height):
        label = by_row.get(row, "")
        edge = "┤" if label else "│"
        rows.append([(label.rjust(gutter - 1), DIM), (edge, GRID), *_runs(area, row)])
    if plot.axis:
        rows.append(fit_row([(" " * gutter, DIM), (_x_labels(area, plot.x_unit), DIM)], width))
    return rows


def cursor_x(plot: Plot, width: int, height: int, column: int) -> float | None:
    """Return the x value under a cell column of the chart, None outside the plotting area."""
    plot = scaled(plot)
    lines = [line for line in plot.lines if line.drawn and np.isfinite(line.mean).any()]
    inner = height - 1 - plot.axis
    if not lines or inner < 1:
        return None
    _, gutter = _y_labels(plot, y_range(lines, plot.from_zero), rows=inner)
    first, last = plot.x_range or x_range(lines)
    inside = (column - gutter) / max(1, width - gutter - 1)
    return first + inside * (last - first) if 0 <= inside <= 1 else None


def _draw(
    area: Area, lines: Sequence[Line], *, labels: list[tuple[float, str]], cursor: float | None
) -> None:
    if area.height >= 8:
        for value, _ in labels:
            row = area.row_of(value)
            area.chars[row, 3::4] = ord("·")
            area.roles[row, 3::4] = GRID
    columns, rows = area.width * 2, area.height * 4
    for line in reversed(lines):
        if line.low is None or line.high is None:
            continue
        at_N = braille.column_of(line.x, *area.x, columns)
        low = braille.spread(
            *braille.reduce_columns(at_N, line.low, columns=columns, how=np.fmin), columns
        )
        high = braille.spread(
            *braille.reduce_columns(at_N, line.high, columns=columns, how=np.fmax), columns
        )
        top = braille.dot_rows(high, *area.y, rows)
        area.paint(
            braille.fill(top, braille.dot_rows(low, *area.y, rows), rows), FAINT + line.colour
        )
    for line in reversed(lines):
        if line.raw is not None and line.low is None:
            _draw_line(area, replace(line, mean=line.raw), role=FAINT)
    for line in reversed(lines):
        _draw_line(area, line, role=FAINT if line.faint else LINE)
    if cursor is not None and 0 <= (cell := area.cell_of(cursor)) < area.width:
        free = area.roles[:, cell] < LINE
        area.chars[free, cell], area.roles[free, cell] = ord("│"), CURSOR


def _draw_marks(area: Area, marks: FloatArray | None) -> None:
    """Draw a cross at the top of each marked column."""
    if marks is None:
        return
    cells = braille.column_of(marks, *area.x, area.width * 2) // 2
    cells = cells[(cells >= 0) & (cells < area.width)]
    area.chars[0, cells], area.roles[0, cells] = ord(CROSS), MARK


def _draw_line(area: Area, line: Line, *, role: int = LINE) -> None:
    columns, rows = area.width * 2, area.height * 4
    at_N = braille.column_of(line.x, *area.x, columns)
    occupied, means = braille.mean_columns(at_N, line.mean, columns=columns)
    row_D = braille.dot_rows(braille.spread(occupied, means, columns), *area.y, rows)
    if line.dotted:
        row_D[np.arange(columns) % 3 > 0] = -1
        area.paint(braille.fill(row_D, row_D, rows), role + line.colour)
        return
    if (row_D >= 0).sum() == 1:
        column = int(np.argmax(row_D))
        area.chars[row_D[column] // 4, column // 2] = ord("●")
        area.roles[row_D[column] // 4, column // 2] = role + line.colour
        return
    area.paint(braille.fill(*braille.connect(row_D), rows), role + line.colour)


def _y_labels(
    plot: Plot, y: tuple[float, float], *, rows: int
) -> tuple[list[tuple[float, str]], int]:
    at_most = max(3, rows // 3)
    if plot.log:
        values = braille.log_ticks(*y, at_most)
        labels = [(value, number(10.0**value, 2)) for value in values]
    else:
        values = braille.ticks(*y, at_most)
        labels = [(value, _tick_text(value, values)) for value in values]
    return labels, max(6, 1 + max(len(text) for _, text in labels))


def _tick_text(value: float, values: Sequence[float]) -> str:
    step = abs(values[1] - values[0]) if len(values) > 1 else abs(value) or 1.0
    largest = max(abs(item) for item in values)
    if largest >= 1e4 or largest < 1e-3:
        return count(value) if largest >= 1e4 else number(value, 2)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return (
        f"{value + 0.0:.{decimals}f}".replace("-0.0", "0.0")
        if value == 0
        else f"{value:.{decimals}f}"
    )


def _x_labels(area: Area, unit: str) -> str:
    text = [" "] * area.width
    values = (
        _time_ticks(area)
        if unit.endswith("time")
        else braille.ticks(*area.x, max(2, area.width // 9))
    )
    name = f" {unit}"
    free = area.width - len(name)
    for value in values:
        label = _x_tick(value, unit)
        start = min(max(0, area.cell_of(value) - len(label) // 2), area.width - len(label))
        if (
            start >= 0
            and start + len(label) <= free
            and not "".join(text[max(0, start - 1) : start + len(label)]).strip()
        ):
            text[start : start + len(label)] = label
    text[free:] = name
    return "".join(text)


def _x_tick(value: float, unit: str) -> str:
    if unit == LEARNING_RATE:
        return f"{10.0**value:.0e}" if float(value).is_integer() else ""
    return duration(value) if unit.endswith("time") else count(value)


def _time_ticks(area: Area) -> list[float]:
    at_most = max(2, area.width // 12)
    first, last = area.x
    for step in (1, 5, 10, 30, 60, 300, 600, 1800, 3600, 7200, 14_400, 21_600, 43_200, 86_400):
        if (last - first) / step < at_most:
            start = math.ceil(first / step)
            return [index * float(step) for index in range(start, math.floor(last / step) + 1)]
    return braille.ticks(first, last, at_most)


def _runs(area: Area, row: int) -> list[Run]:
    roles = area.roles[row]
    cuts = [0, *(np.flatnonzero(np.diff(roles)) + 1).tolist(), area.width]
    text = area.chars[row].astype("<u4").tobytes().decode("utf-32-le")
    return [(text[start:end], int(roles[start])) for start, end in itertools.pairwise(cuts)]
