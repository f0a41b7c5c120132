"""Long lines of the log are broken at spaces and stay whole."""

from __future__ import annotations

from tui.reports.formats import cells
from tui.widgets.log_tail import wrap


def test_a_short_line_is_one_row():
    assert wrap("02:24:06 saved", 40) == ["02:24:06 saved"]
    assert wrap("", 40) == [""]


def test_a_long_line_breaks_at_spaces_with_an_indent():
    assert wrap("02:24:06 update 40: evaluated 4 items in 0.6 s", 30) == [
        "02:24:06 update 40: evaluated",
        "          4 items in 0.6 s",
    ]


def test_a_word_longer_than_the_row_is_cut_without_loss():
    rows = wrap("x" * 100, 30)
    assert "".join(row.strip() for row in rows) == "x" * 100
    assert max(map(len, rows)) <= 30


def test_a_window_too_narrow_to_wrap_in_does_not_hang():
    assert wrap("x" * 100, 5) == ["x" * 100]
    assert wrap("x" * 100, 0) == ["x" * 100]


def test_wide_characters_are_cut_by_their_cells():
    line = "02:24:06 " + "一首很长的歌" * 8 + ".wav"
    rows = wrap(line, 30)
    assert "".join(rows).replace(" ", "") == line.replace(" ", "")
    assert max(map(cells, rows)) <= 30
