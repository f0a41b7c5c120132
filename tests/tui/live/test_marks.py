"""Marks: their order, their colours, and how many there may be."""

from __future__ import annotations

from tui.live.marks import Marks


def test_marks_keep_their_order_and_their_colours():
    marks = Marks((7, 3), most=3)
    assert (marks.runs, marks.colours(None)) == ((7, 3), {7: 0, 3: 1})
    assert marks.toggle(7)
    assert marks.toggle(5)
    assert (marks.runs, marks.colours(None)) == ((3, 5), {3: 1, 5: 0})
    assert marks.colours(3) == {3: 1, 5: 0}
    assert marks.colours(9) == {3: 1, 5: 0, 9: 2}


def test_more_marks_than_colours_are_refused_and_change_nothing():
    marks = Marks((1, 2, 3, 4), most=3)
    assert marks.runs == (1, 2, 3)
    assert not marks.toggle(4)
    assert marks.runs == (1, 2, 3)
    assert marks.colours(4)[4] == 3, "the selected run has the last colour of the palette"


def test_runs_that_are_gone_lose_their_marks():
    marks = Marks((1, 2), most=3)
    marks.keep({2})
    assert marks.runs == (2,)
    marks.clear()
    assert (marks.runs, marks.colours(2)) == ((), {})
