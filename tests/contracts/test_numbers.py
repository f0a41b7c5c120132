"""Real numbers on the command line go through `tui.cli.numbers`, which refuses NaN; click's own range lets it pass."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from tui.cli.numbers import Number

ROOT = Path(__file__).parents[2]


def test_no_command_has_a_range_that_nan_passes() -> None:
    sources = {path: path.read_text(encoding="utf-8") for path in (ROOT / "tui").rglob("*.py")}
    assert len(sources) > 50
    using = {path.name for path, text in sources.items() if "click.FloatRange" in text}
    assert using == {"numbers.py"}


@pytest.mark.parametrize("text", ["nan", "-nan", "NaN"])
def test_nan_is_in_no_range(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not in the range 0<=x<=1"):
        Number(0, 1).convert(text, None, None)
    assert Number(0, 1).convert("0.5", None, None) == 0.5
