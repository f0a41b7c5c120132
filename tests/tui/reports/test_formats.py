"""Numbers and times as short text."""

from __future__ import annotations

import pytest

from tui.reports import formats


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, "0"), (950, "950"), (1234, "1.2k"), (20_000, "20k"), (999_900, "1M"), (3.4e6, "3.4M"), (None, "–"),
     (float("nan"), "–"), (0.5, "0.5"), (123_456, "123k")],
)  # fmt: skip
def test_count(value, expected):
    assert formats.count(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.3941, "0.394"), (12.34, "12.3"), (198.2, "198"), (3e-4, "3e-4"), (0, "0"), (-0.5, "-0.500"),
     (1.5e-7, "1.5e-7"), (float("inf"), "–")],
)  # fmt: skip
def test_number(value, expected):
    assert formats.number(value) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0s"),
        (59.4, "59s"),
        (190, "3m10s"),
        (7500, "2h05m"),
        (356_400, "4d03h"),
        (None, "–"),
        (-5, "0s"),
    ],
)
def test_duration(seconds, expected):
    assert formats.duration(seconds) == expected


def test_sizes_share_a_unit():
    assert formats.size(512) == "512 B"
    assert formats.size(3.1 * 1024**3) == "3.1 GiB"
    assert formats.fraction(3.1 * 1024**3, 8 * 1024**3) == "3.1/8.0 GiB"
    assert formats.fraction(None, None) == "–"


def test_levels_and_gains_have_two_decimals():
    assert (formats.level(12.345), formats.gain(0.5), formats.gain(-2)) == (
        "12.35",
        "+0.50",
        "-2.00",
    )


def test_a_bar_resolves_eighths():
    assert formats.bar(0.0, 4) == "    "
    assert formats.bar(0.5, 4) == "██  "
    assert formats.bar(9 / 32, 4) == "█▏  "
    assert formats.bar(7.0, 4) == "████"


def test_control_characters_do_not_reach_the_terminal():
    assert formats.clean("\x1b[31mred\x1b[0m\tend\x07\x1b]0;title\x07!") == "red    end!"


def test_fit_is_exact():
    assert [formats.fit("abcdef", width) for width in (0, 1, 4, 6, 8)] == [
        "", "…", "abc…", "abcdef", "abcdef  ",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("share", "expected"), [(0, "0%"), (0.29, "29%"), (0.315, "31%"), (0.9999, "99%"), (1, "100%")]
)
def test_percent_is_rounded_down(share, expected):
    assert formats.percent(share) == expected


def test_wide_characters_take_two_cells_wherever_text_is_padded_or_cut():
    """Chinese names broke the columns of tables: a character was taken for a cell."""
    assert [formats.cells(text) for text in ("abc", "一首歌", "e\u0301", "ｱ")] == [3, 6, 1, 1]
    assert formats.fit("一首歌", 8) == "一首歌  "
    assert formats.fit("一首歌", 5) == "一首…"
    assert formats.fit("一首歌", 4) == "一 …", "half a character is a space"
    assert formats.padded("一", 4, right=True) == "  一"
    lines = formats.aligned(["FILE", "S"], [["一首歌.wav", "2"], ["a.wav", "10"]], right=("S",))
    assert lines == ["FILE         S", "一首歌.wav   2", "a.wav       10"]
    assert {formats.cells(line) for line in lines} == {14}
    assert [formats.fitting("一首歌", width) for width in (0, 1, 2, 3, 4, 9)] == [1, 1, 1, 1, 2, 3]
