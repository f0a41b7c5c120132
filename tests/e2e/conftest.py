"""Fixtures of the end-to-end tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.shell import Shell


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """A fresh home and a working folder of its own."""
    return Shell(tmp_path / "home", cwd=tmp_path)
