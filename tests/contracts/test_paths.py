"""Paths of people are expanded, checked and put into addresses in one place each."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# What -> the one file that may do it.
ONE_HOME = {
    r"click\.Path\(": "tui/cli/paths.py",
    r"\.?expanduser\(|\.home\(\)": "models/user_paths.py",
    r"f?\"file:": "",
}


@pytest.mark.parametrize("pattern", ONE_HOME)
def test_one_file_does_it(pattern: str) -> None:
    found = {
        path.relative_to(ROOT).as_posix()
        for package in ("engine", "jobs", "models", "presets", "tui")
        for path in (ROOT / package).rglob("*.py")
        if re.search(pattern, re.sub(r'"file:line"', "", path.read_text(encoding="utf-8")))
    }
    assert found <= {ONE_HOME[pattern]}, (
        "use models.user_paths.expanded, tui.cli.paths.UserPath, Path.as_uri"
    )
