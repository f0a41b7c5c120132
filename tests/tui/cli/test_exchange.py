"""Claims about `sepdash import` and `sepdash export`: what is refused, what is passed on to the child."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tui.cli import exchange as module


@pytest.fixture
def commands(monkeypatch) -> list[list[str]]:
    """The children that would have been started."""
    started: list[list[str]] = []

    def start(command, check):
        started.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(module.subprocess, "run", start)
    return started


def test_the_child_gets_every_option_that_was_given(sepdash, tmp_path: Path, commands) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(b"")
    out = str(tmp_path / "out")
    assert sepdash("import", str(path), "-o", out).code == 0
    given = ["--kind", "hubert", "--strides", "5,2", "--heads", "4", "--new-parts"]
    given += ["--layer-norm-after", "--normalize-waveform"]
    assert sepdash("import", str(path), "-o", out, *given).code == 0
    plain, full = commands
    assert plain[1:5] == ["-P", "-m", "engine.programs.exchange", "import"]
    assert set(plain[5:]) == {"--out", out, "--", str(path)}
    assert set(full[5:]) == {
        "--kind=hubert", "--strides=5,2", "--heads=4", "--new-parts",
        "--no-layer-norm-first", "--normalize-waveform", "--out", out, "--", str(path),
    }  # fmt: skip


def test_what_can_not_be_is_refused_before_a_child_is_started(
    sepdash, lab, tmp_path: Path, commands
) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(b"")
    answer = sepdash("import", str(path), "-o", "out", "--strides", "5;2")
    assert (answer.code, "expected numbers like 5,2,2" in answer.err) == (2, True)
    assert "does not exist" in sepdash("import", "missing.pt", "-o", "out").err
    lab.run("one")
    answer = sepdash("export", "one", "--format", "torchaudio", "-o", "out")
    assert (answer.code, "run one has no checkpoint yet" in answer.err) == (2, True)
    answer = sepdash("export", "one", "-o", "out")
    assert answer.err == (
        "sepdash: missing option '--format'. Choose from: torchaudio, transformers; see "
        "`sepdash export --help`\n"
    )
    assert commands == []


def test_the_message_of_the_child_is_passed_on(sepdash, tmp_path: Path) -> None:
    path = tmp_path / "odd.pt"
    path.write_bytes(b"no weights")
    answer = sepdash("import", str(path), "-o", str(tmp_path / "out"))
    assert answer.code == 2
    assert answer.err == f"sepdash: {path} is damaged or was not saved by torch\n"
