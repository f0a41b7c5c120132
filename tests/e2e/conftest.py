"""Fixtures of the end-to-end tests."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.shell import Shell
from tests.pages import ROOT


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """A fresh home and a working folder of its own."""
    return Shell(tmp_path / "home", cwd=tmp_path)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Shell]:
    """Return a function that builds and installs a package, and returns a shell that finds it."""
    site = tmp_path / "site"

    def install(package: Path) -> Shell:
        # Its build tool is that of sepdash, which uv has kept; without it, uv fetches it.
        command = [
            os.environ.get("UV", "uv"),
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--target",
            str(site),
            str(package),
        ]
        if subprocess.run([*command, "--offline"], capture_output=True, check=False).returncode:
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            assert result.returncode == 0, result.stderr
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(site)]))
        return Shell(tmp_path / "home", cwd=tmp_path)

    return install
