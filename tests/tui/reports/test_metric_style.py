"""How metrics are called and written."""

from __future__ import annotations

import math

import pytest

from jobs.store.reader import StoreReader
from tui.reports.metric_style import common_title, style_of
from tui.widgets.run_cells import header, layout, row_cells


@pytest.mark.parametrize(
    ("metric", "value", "text", "with_unit"),
    [
        ("si_sdr", 12.345, "12.35", "12.35 dB"),
        ("si_sdr_full_ema", -0.5, "-0.50", "-0.50 dB"),
        ("wer", 0.0312, "3.12%", "3.12%"),
        ("wer_ema", 0.5, "50.0%", "50.0%"),
        ("wer", 0.09996, "10.0%", "10.0%"),
        ("cer", 0.9996, "100%", "100%"),
        ("wer", 12.5, "1250%", "1250%"),
        ("wer", None, "–", "–"),
        ("si_sdr", math.nan, "–", "–"),
        ("val_loss", 1.5, "1.50", "1.50 "),
    ],
)
def test_values(metric: str, value: float | None, text: str, with_unit: str) -> None:
    assert style_of(metric).value(value) == text
    assert style_of(metric).with_unit(value).rstrip() == with_unit.rstrip()


def test_a_column_is_called_after_what_all_have_in_common() -> None:
    assert common_title(["wer", "wer"]) == "WER"
    assert common_title(["wer", "si_sdr"]) == "best"
    assert common_title([]) == "SI-SDR"


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
