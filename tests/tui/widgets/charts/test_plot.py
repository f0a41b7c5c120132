"""A chart as text: legend, axes, gaps, bands and crosshair."""

from __future__ import annotations

import numpy as np
import pytest

from tui.widgets.charts import figure, plot
from tui.widgets.charts.figure import Line, Plot


def text(rows) -> list[str]:
    return ["".join(part for part, _ in row) for row in rows]


def line(y, label="a", colour=0, **kwargs) -> Line:
    return Line(
        label, colour, x=np.arange(len(y), dtype=float), mean=np.array(y, dtype=float), **kwargs
    )


def test_every_row_has_the_width_and_there_are_as_many_as_asked_for():
    shown = Plot("Loss", lines=(line([3.0, 1.0, 2.0]), line([1.0, 2.0, 3.0], "b", 1)))
    for width, height in [(80, 24), (40, 6), (17, 3), (10, 2), (1, 1), (200, 50)]:
        rows = text(plot.compose(shown, width, height))
        assert [len(row) for row in rows] == [width] * height


def test_the_legend_names_the_newest_value_and_shortens_where_it_must():
    lines = (line([1.0, 12.5], "EMA"), line([1.0, 6.0], "input", 7, dotted=True))
    shown = Plot("SI-SDR", "dB", lines=lines)
    assert text(plot.compose(shown, 60, 6))[0].strip() == "SI-SDR dB  ━ EMA 12.5  ┄ input 6.00"
    assert text(plot.compose(shown, 28, 6))[0].strip() == "SI-SDR ━ EMA 12.5 ┄ input"


def test_an_empty_chart_says_why():
    rows = text(plot.compose(Plot("Loss", empty="waiting in the queue"), 40, 6))
    assert any(row.strip() == "waiting in the queue" for row in rows)
    nothing = line([float("nan")] * 3)
    assert "no data yet" in "".join(text(plot.compose(Plot("Loss", lines=(nothing,)), 40, 6)))


def test_one_point_is_a_visible_dot():
    assert "●" in "".join(text(plot.compose(Plot("SI-SDR", lines=(line([4.0]),)), 40, 6)))


def test_the_first_line_lies_on_top_and_the_band_below():
    y = np.full(40, 1.0)
    top = line(y, "top", 1)
    band = line(y, "band", 2, low=y - 1, high=y + 1)
    roles = {role for row in plot.compose(Plot("x", lines=(top, band)), 40, 8) for _, role in row}
    assert figure.LINE + 1 in roles
    assert figure.FAINT + 2 in roles
    body = plot.compose(Plot("x", lines=(top, band)), 40, 8)[1:-1]
    assert all(role != figure.LINE + 2 for row in body for _, role in row)


def test_marks_are_crosses_at_the_top_and_counted_in_the_legend():
    shown = Plot(
        "Loss",
        lines=(line(np.full(41, 1.0)),),
        marks=np.array([10.0, 30.0, 99.0]),
        marks_label="2 skipped",
    )
    legend, top, *rest = plot.compose(shown, 60, 8)
    assert text([legend])[0].strip() == "Loss  ━ a 1.00  × 2 skipped"
    area = text([top])[0]
    crosses = [index for index, char in enumerate(area) if char == "×"]
    # A quarter and three quarters of the 53 cells right of the axis; 99 lies outside.
    assert crosses == [6 + round(0.25 * 53), 6 + round(0.75 * 53)]
    assert {role for part, role in top if "×" in part} == {figure.MARK}
    assert "×" not in "".join(text(rest))
    for marks in (None, np.zeros(0)):
        plain = Plot("Loss", lines=shown.lines, marks=marks, marks_label="0 skipped")
        assert "×" not in "".join(text(plot.compose(plain, 60, 8)))


def test_a_line_that_is_not_drawn_is_only_read():
    rows = plot.compose(
        Plot("Speed", lines=(line([2.0, 2.0]), line([9.0, 9.0], "u", 3, drawn=False))), 40, 6
    )
    assert "u 9.00" in text(rows)[0]
    assert all(role != figure.LINE + 3 for row in rows[1:] for _, role in row)


def test_the_crosshair_reads_the_last_point_at_or_before_it():
    shown = Plot("Loss", lines=(line([5.0, 6.0, 7.0, 8.0]),))
    assert text(plot.compose(shown, 50, 6, 1.5))[0].strip() == "Loss  at 2  ━ a 6.00"
    assert figure.value_at(shown.lines[0], -1.0) is None


def test_the_cursor_column_is_the_inverse_of_drawing():
    shown = Plot("Loss", lines=(line(np.arange(101.0)),))
    assert plot.cursor_x(shown, 60, 10, 2) is None
    assert plot.cursor_x(shown, 60, 10, 59) == pytest.approx(100.0)
    assert plot.cursor_x(shown, 60, 10, 6) == pytest.approx(0.0)


def test_a_logarithmic_axis_is_used_where_all_is_positive():
    y = 10.0 ** -np.linspace(0, 3, 50)
    rows = text(plot.compose(Plot("Loss", lines=(line(y),), log=True), 60, 14))
    assert any(row.lstrip().startswith("0.010┤") for row in rows)
    assert "0.00100" in rows[0]
    negative = Plot("Loss", lines=(line([-1.0, -2.0]),), log=True)
    assert "-2.00" in text(plot.compose(negative, 60, 14))[0]


def test_limits_ignore_the_outermost_of_a_band_but_hold_every_mean():
    y = np.ones(200)
    high = y.copy()
    high[3] = 1e6
    low, top = figure.y_range([line(y, low=y, high=high)])
    assert low < 1 < top < 1.2
    assert figure.y_range([line([1.0, 500.0])])[1] > 500


def test_time_axes_are_labelled_as_time():
    shown = Plot(
        "Memory",
        "GiB",
        lines=(Line("RAM", 0, x=np.array([0.0, 3600.0]), mean=np.ones(2)),),
        x_unit="time",
    )
    assert "30m00s" in text(plot.compose(shown, 60, 8))[-1]
