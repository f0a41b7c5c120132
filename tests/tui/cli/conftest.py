"""Running the command line inside the test, as a shell would see it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tui.main import run as run_command


@dataclass(frozen=True)
class Answer:
    """What a command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture
def sepdash(capfd: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """Run one command in this process; its home is the one of the test."""

    def call(*words: str) -> Answer:
        capfd.readouterr()
        code = run_command(words)
        captured = capfd.readouterr()
        return Answer(code, captured.out, captured.err)

    return call


@pytest.fixture
def spawn(repository: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start one command as a process of its own."""
    started: list[subprocess.Popen[str]] = []

    def start(*words: str, **options) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "tui.main", *words], cwd=repository, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
