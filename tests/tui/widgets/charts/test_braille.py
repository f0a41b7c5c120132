"""Braille cells, reductions and ticks against answers made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from tui.widgets.charts import braille

NAN = float("nan")


def cells(bits: np.ndarray) -> list[str]:
    return ["".join(chr(braille.BLANK + int(bit)) for bit in row) for row in bits]


def test_each_dot_of_a_cell_has_its_bit():
    for row, column, char in [
        (0, 0, "⠁"), (1, 0, "⠂"), (2, 0, "⠄"), (3, 0, "⡀"),
        (0, 1, "⠈"), (1, 1, "⠐"), (2, 1, "⠠"), (3, 1, "⢀"),
    ]:  # fmt: skip
        dots = np.zeros((4, 2), dtype=bool)
        dots[row, column] = True
        assert cells(braille.pack(dots)) == [char]


def test_a_rising_line_is_drawn_dot_by_dot():
    rows = braille.dot_rows(np.array([0.0, 1.0, 2.0, 3.0]), 0.0, 3.0, 4)
    assert rows.tolist() == [3, 2, 1, 0]
    assert cells(braille.fill(rows, rows, 4)) == ["⡠⠊"]


def test_neighbours_touch_and_nan_breaks_the_line():
    top, bottom = braille.connect(np.array([7, 0, -1, 3]))
    assert top.tolist() == [4, 0, -1, 3]
    assert bottom.tolist() == [7, 3, -1, 3]
    top, bottom = braille.connect(np.array([0, 7]))
    assert (top.tolist(), bottom.tolist()) == ([0, 4], [3, 7])


def test_a_band_fills_from_low_to_high():
    bits = braille.fill(np.array([0, -1]), np.array([7, -1]), 8)
    assert cells(bits) == ["⡇", "⡇"]


def test_a_column_keeps_minimum_maximum_and_mean_of_its_points():
    column = np.array([0, 0, 0, 2])
    values = np.array([1.0, NAN, 5.0, 7.0])
    assert braille.reduce_columns(column, values, columns=3, how=np.fmin)[1].tolist() == [1.0, 7.0]
    assert braille.reduce_columns(column, values, columns=3, how=np.fmax)[1].tolist() == [5.0, 7.0]
    occupied, mean = braille.mean_columns(column, values, columns=3)
    assert (occupied.tolist(), mean.tolist()) == ([0, 2], [3.0, 7.0])


def test_points_outside_the_columns_are_left_out():
    column = braille.column_of(np.array([-50.0, 0.0, 10.0, 99.0]), 0.0, 10.0, 5)
    assert column.tolist() == [-1, 0, 4, 5]
    assert braille.reduce_columns(column, np.arange(4.0), columns=5, how=np.fmin)[0].tolist() == [
        0,
        4,
    ]


def test_spread_draws_straight_lines_between_points_only():
    filled = braille.spread(np.array([1, 3]), np.array([0.0, 4.0]), 5)
    np.testing.assert_array_equal(filled, [NAN, 0.0, 2.0, 4.0, NAN])
    broken = braille.spread(np.array([0, 2, 4]), np.array([1.0, NAN, 3.0]), 5)
    np.testing.assert_array_equal(broken, [1.0, NAN, NAN, NAN, 3.0])
    assert np.isnan(braille.spread(np.array([], dtype=int), np.array([]), 3)).all()


@pytest.mark.parametrize(
    ("low", "high", "at_most", "expected"),
    [
        (0, 10, 3, [0, 5, 10]),
        (0.2, 2.2, 4, [0.5, 1.0, 1.5, 2.0]),
        (-3, 3, 3, [-2, 0, 2]),
        (5, 5, 3, [5]),
    ],
)
def test_ticks_are_round(low, high, at_most, expected):
    assert braille.ticks(low, high, at_most) == pytest.approx(expected)


def test_log_ticks_are_decades_or_1_2_5():
    assert braille.log_ticks(-2.2, 1.1, 5) == [-2.0, -1.0, 0.0, 1.0]
    assert braille.log_ticks(-0.05, 0.75, 5) == pytest.approx(np.log10([1, 2, 5]).tolist())
