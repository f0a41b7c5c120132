"""Cells of the table of runs."""

from __future__ import annotations

import pytest

from jobs.store.reader import StoreReader
from tui.widgets.run_cells import header, layout, row_cells


def test_runs_of_both_tasks_share_the_table(lab) -> None:
    lab.run("a", "finished", updates=2000, level=12.0)
    lab.run("b", "finished", updates=2000, level=5.5, metric="wer")
    with StoreReader(lab.home.store) as reader:
        speech, separation = reader.runs()
    assert (speech.top, speech.gain) == (pytest.approx(0.05), None)
    assert (separation.top, separation.gain) == (12.4, pytest.approx(6.38))
    columns = layout(120)

    def texts(cells) -> str:
        return " ".join("".join(cell.text for cell in cells).split())

    assert "best EMA gain dB" in texts(header(columns, (speech, separation)))
    assert "WER EMA gain dB" in texts(header(columns, (speech,)))
    assert "5.50% 5.00% 2k" in texts(row_cells(speech, columns, place=0, now=0))
    assert "12.00 12.40 +6.38 2k" in texts(row_cells(separation, columns, place=0, now=0))
