"""A chart of runs whose values don't mean the same: panels with axes of their own, or a note. Pure functions.

Where the chart is high enough, each plot has a panel, one below the other. Elsewhere the first one is drawn
(that of the selected run), and a note says which runs are not, and why.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tui.reports.formats import cells, clean, fit
from tui.widgets.charts.figure import MARK, Plot, Run
from tui.widgets.charts.plot import compose, cursor_x

# Rows below which a panel can't be read.
_ROWS = 8
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
        rows.insert(1, [(_note(_left_out(plot, height), width), MARK)])
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
    left_out = _left_out(plot, height)
    drawn = plot.apart[: len(plot.apart) - len(left_out)]
    plots = [
        plot,
        *(part if part.title == plot.title else replace(part, note="") for part in drawn),
    ]
    if left_out and height < _WITH_NOTE:
        plots[0] = replace(plot, note=f"+{sum(len(_names(part)) for part in left_out)} apart")
    share, more = divmod(height - _has_note(plot, height), len(plots))
    return [(part, share + (index < more)) for index, part in enumerate(plots)]


def _has_note(plot: Plot, height: int) -> bool:
    return height >= _WITH_NOTE and bool(_left_out(plot, height))


def _left_out(plot: Plot, height: int) -> tuple[Plot, ...]:
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
