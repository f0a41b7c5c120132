"""The home of 2026-11-22 and the command line on it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.compat import old_home


class OldHome:
    """A copy of the recorded home; what is called on it is the installed command line."""

    def __init__(self, user: Path) -> None:
        self.user = user
        self.root = old_home.place(user)

    def sepdash(self, *words: str) -> str:
        """Return what a command prints; its failure is the test's failure, with its words."""
        result = subprocess.run(
            [sys.executable, "-P", "-m", "tui.main", "--home", str(self.root), *words],
            cwd=self.user, capture_output=True, text=True, timeout=250, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert result.returncode == 0, f"sepdash {words}: {result.stdout}\n{result.stderr}"
        return result.stdout

    def json(self, *words: str) -> Any:
        """Return what a command prints with --json."""
        return json.loads(self.sepdash(*words, "--json"))


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> OldHome:
    """A home that tests only read."""
    return OldHome(tmp_path_factory.mktemp("user"))


@pytest.fixture
def fresh(tmp_path: Path) -> OldHome:
    """A home that a test may change."""
    return OldHome(tmp_path / "user")


@pytest.fixture(scope="session")
def recorded() -> Any:
    """What the version of 2026-11-22 printed."""
    return old_home.expected()


@pytest.fixture
def separated(tmp_path: Path) -> Callable[..., Any]:
    """Return a function that separates one file and reads the estimate, (T,)."""
    import soundfile

    def separate(home: OldHome, model: str, source: Path) -> Any:
        out = tmp_path / "separated"
        home.sepdash("separate", model, str(source), "-o", str(out), "--device", "cpu")
        (path,) = out.iterdir()
        samples, _ = soundfile.read(path)
        return samples

    return separate
