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

from tui.reports.formats import clean, count, duration, fit, number
from tui.widgets.charts import braille
from tui.widgets.charts.braille import BitArray, FloatArray

TEXT, DIM, GRID, CURSOR, TITLE, MARK = range(6)
LINE, FAINT = 16, 32  # plus the index of a colour
PALETTE_SIZE = 8
_CROSS = "×"
# The unit of an x axis whose values are the decimal logarithm of what it shows.
LEARNING_RATE = "learning rate"

Run = tuple[str, int]


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """One curve: `mean` over `x` (ascending), with `low` and `high` where points were merged.

    A line that is not `drawn` shows its value in the legend only.
    """

    label: str
    colour: int
    x: FloatArray
    mean: FloatArray
    low: FloatArray | None = None
    high: FloatArray | None = None
    dotted: bool = False
    drawn: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Plot:
    """What a chart shows; `empty` is the text shown without data.

    `marks` are x values where something happened that is in no curve, such as an update that was skipped;
    `marks_label` says what, at the end of the legend.
    """

    title: str
    unit: str = ""
    lines: tuple[Line, ...] = ()
    x_unit: str = "updates"
    x_range: tuple[float, float] | None = None
    log: bool = False
    from_zero: bool = False
    empty: str = "no data yet"
    marks: FloatArray | None = None
    marks_label: str = ""


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
    plot = _scaled(plot)
    shown = [line for line in plot.lines if np.isfinite(line.mean).any()]
    lines = [line for line in shown if line.drawn]
    rows: list[list[Run]] = (
        [_fit(_legend(plot, shown, width=width, cursor=cursor), width)] if height > 0 else []
    )
    if not lines or height < 3 or width < 16:
        blank = [[(" " * width, TEXT)] for _ in range(height - len(rows))]
        if len(blank) and not lines:
            text = plot.empty[:width]
            blank[(len(blank) - 1) // 2] = [(text.center(width), DIM)]
        return rows + blank
    y = y_range(lines, plot.from_zero)
    labels, gutter = _y_labels(plot, y, rows=height - 2)
    area = Area(width - gutter, height - 2, x=plot.x_range or x_range(lines), y=y)
    _draw(area, lines, labels=labels, cursor=cursor)
    _draw_marks(area, plot.marks)
    by_row = {area.row_of(value): text for value, text in reversed(labels)}
    for row in range(area.height):
        label = by_row.get(row, "")
        edge = "┤" if label else "│"
        rows.append([(label.rjust(gutter - 1), DIM), (edge, GRID), *_runs(area, row)])
    rows.append(_fit([(" " * gutter, DIM), (_x_labels(area, plot.x_unit), DIM)], width))
    return rows


def cursor_x(plot: Plot, width: int, height: int, column: int) -> float | None:
    """Return the x value under a cell column of the chart, None outside the plotting area."""
    plot = _scaled(plot)
    lines = [line for line in plot.lines if line.drawn and np.isfinite(line.mean).any()]
    if not lines or height < 3:
        return None
    _, gutter = _y_labels(plot, y_range(lines, plot.from_zero), rows=height - 2)
    first, last = plot.x_range or x_range(lines)
    inside = (column - gutter) / max(1, width - gutter - 1)
    return first + inside * (last - first) if 0 <= inside <= 1 else None


def x_range(lines: Sequence[Line]) -> tuple[float, float]:
    """Return the x of the first and the last point of all lines."""
    first = min((float(line.x[0]) for line in lines if len(line.x)), default=0.0)
    last = max((float(line.x[-1]) for line in lines if len(line.x)), default=1.0)
    if 0 < first <= 0.06 * last:
        first = 0.0
    return (first, last) if last > first else (first, first + 1.0)


def y_range(lines: Sequence[Line], from_zero: bool = False) -> tuple[float, float]:
    """Return limits that include every mean; the outermost 2 % of bands are ignored."""
    values = [line.mean for line in lines]
    for line in lines:
        if line.low is not None and line.high is not None:
            if np.isfinite(line.low).any():
                values.append(np.nanquantile(line.low, [0.02]))
            if np.isfinite(line.high).any():
                values.append(np.nanquantile(line.high, [0.98]))
    joined = np.concatenate(values)
    joined = joined[np.isfinite(joined)]
    low, high = float(joined.min()), float(joined.max())
    if from_zero:
        return min(0.0, low), high * 1.08 if high > 0 else 1.0
    margin = (high - low) * 0.05 or max(abs(high) * 0.05, 1e-9)
    return low - margin, high + margin


def value_at(line: Line, x: float) -> float | None:
    """Return the mean of the last point at or before `x`, None before the first."""
    index = int(np.searchsorted(line.x, x, side="right")) - 1
    return float(line.mean[index]) if index >= 0 and np.isfinite(line.mean[index]) else None


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
        _draw_line(area, line)
    if cursor is not None and 0 <= (cell := area.cell_of(cursor)) < area.width:
        free = area.roles[:, cell] < LINE
        area.chars[free, cell], area.roles[free, cell] = ord("│"), CURSOR


def _draw_marks(area: Area, marks: FloatArray | None) -> None:
    """Draw a cross at the top of each marked column."""
    if marks is None:
        return
    cells = braille.column_of(marks, *area.x, area.width * 2) // 2
    cells = cells[(cells >= 0) & (cells < area.width)]
    area.chars[0, cells], area.roles[0, cells] = ord(_CROSS), MARK


def _draw_line(area: Area, line: Line) -> None:
    columns, rows = area.width * 2, area.height * 4
    at_N = braille.column_of(line.x, *area.x, columns)
    occupied, means = braille.mean_columns(at_N, line.mean, columns=columns)
    row_D = braille.dot_rows(braille.spread(occupied, means, columns), *area.y, rows)
    if line.dotted:
        row_D[np.arange(columns) % 3 > 0] = -1
        area.paint(braille.fill(row_D, row_D, rows), LINE + line.colour)
        return
    if (row_D >= 0).sum() == 1:
        column = int(np.argmax(row_D))
        area.chars[row_D[column] // 4, column // 2] = ord("●")
        area.roles[row_D[column] // 4, column // 2] = LINE + line.colour
        return
    area.paint(braille.fill(*braille.connect(row_D), rows), LINE + line.colour)


def _legend(plot: Plot, lines: Sequence[Line], *, width: int, cursor: float | None) -> list[Run]:
    """Return title, unit, labels and values, shortened if the chart is narrow."""
    runs = _legend_runs(plot, lines, cursor=cursor)
    if _length(runs) > width:
        runs = _legend_runs(plot, lines, cursor=cursor, brief=True)
    longest = max((len(line.label) for line in lines), default=0)
    while _length(runs) > width and longest > 4:
        longest -= 1
        runs = _legend_runs(plot, lines, cursor=cursor, brief=True, longest=longest)
    return runs


def _length(runs: list[Run]) -> int:
    return sum(len(text) for text, _ in runs)


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
        runs.append((f"{gap}at {_x_text(cursor, plot.x_unit)}", CURSOR))
    for line in lines:
        at = cursor if cursor is not None else math.inf
        finite = line.mean[np.isfinite(line.mean)]
        value = value_at(line, at) if cursor is not None else float(finite[-1])
        if plot.log and value is not None:
            value = 10.0**value
        mark = "┄" if line.dotted else "━"
        runs.append((f"{gap}{mark} " if line.drawn else gap, LINE + line.colour))
        if line.label:
            label = clean(line.label)
            runs.append((f"{label if len(label) <= longest else fit(label, longest)} ", DIM))
        if not (brief and line.dotted):
            runs.append((number(value), TEXT))
    if plot.marks is not None and len(plot.marks):
        runs.append((f"{gap}{_CROSS} {plot.marks_label}", MARK))
    return runs


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


def _x_text(value: float, unit: str) -> str:
    if unit.endswith("time"):
        return duration(value)
    return f"{value:.0f}" if unit == "updates" and value < 1e5 else count(value)


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


def _fit(runs: list[Run], width: int) -> list[Run]:
    out: list[Run] = []
    for text, role in runs:
        room = width - sum(len(part) for part, _ in out)
        if len(text) > room:
            out.append((text[: max(0, room - 1)] + ("…" if room > 0 else ""), role))
            return out
        out.append((text, role))
    used = sum(len(part) for part, _ in out)
    return [*out, (" " * (width - used), TEXT)]


def _positive(plot: Plot) -> bool:
    values = [line.mean[np.isfinite(line.mean)] for line in plot.lines]
    return bool(plot.lines) and all(bool((value > 0).all()) for value in values)


def _scaled(plot: Plot) -> Plot:
    """Return the plot with log10 of every y if a logarithmic axis is requested and possible."""
    if not plot.log:
        return plot
    if not _positive(plot):
        return replace(plot, log=False)

    def log(values: FloatArray | None) -> FloatArray | None:
        if values is None:
            return None
        positive = np.where(values > 0, values, np.nan)
        return np.log10(positive, out=np.full_like(positive, np.nan), where=positive > 0)

    lines = tuple(
        replace(line, mean=np.asarray(log(line.mean)), low=log(line.low), high=log(line.high))
        for line in plot.lines
    )
    return replace(plot, lines=lines, from_zero=False)
