"""Helpers that drive the installed command line the way a person does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


class Shell:
    """Runs `sepdash` verbs in one home and reads their output."""

    def __init__(self, home: Path, *, cwd: Path) -> None:
        self.home = home
        self._cwd = cwd
        self._environment = {**os.environ, "SEPDASH_HOME": str(home)}

    def run(self, *arguments: str, timeout_s: float = 280) -> str:
        """Return what a verb prints; its failure is the test's failure, with its words."""
        result = subprocess.run(
            [sys.executable, "-P", "-m", "tui.main", *arguments],
            cwd=self._cwd, env=self._environment, capture_output=True, text=True,
            timeout=timeout_s, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert result.returncode == 0, f"sepdash {arguments}: {result.stdout}\n{result.stderr}"
        return result.stdout

    def show(self, run: str) -> dict[str, Any]:
        """Return `sepdash show RUN --json`."""
        shown: dict[str, Any] = json.loads(self.run("show", run, "--json"))
        return shown

    def runs(self) -> list[dict[str, Any]]:
        """Return `sepdash runs --json`."""
        listed: list[dict[str, Any]] = json.loads(self.run("runs", "--json"))
        return listed
