"""What commands write: names from outside, encodings, closed pipes, full disks, terminals that can't do much."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

EVIL = "x\x1b[31m\x1b]0;t\x07y\r"
COMMANDS = (("presets",), ("--help",), ("doctor",), ("sweep",))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two files with names that no terminal should get."""
    root = tmp_path / "data"
    root.mkdir()
    for name in (f"{EVIL}.wav".encode(), b"caf\xe9.wav"):
        with Path(os.fsdecode(os.fsencode(root) + b"/" + name)).open("wb") as file:
            soundfile.write(file, np.full(4000, 0.1), 8000, format="WAV")
    Path(os.fsdecode(os.fsencode(root) + b"/b\xe9\x1b[2J.wav")).write_bytes(b"no audio")
    return root


def call(*words: str, **options) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "tui.main", *words]
    return subprocess.run(command, capture_output=True, check=False, **options)


def test_names_from_outside_reach_no_terminal(sepdash, folder: Path) -> None:
    for words in (
        ("data", "check", str(folder), "--segment", "9"),
        ("data", "check", str(folder), "--json"),
    ):
        answer = sepdash(*words)
        assert answer.code == 2
        assert not {sign for sign in answer.out + answer.err if ord(sign) < 32} - {"\n"}
    assert "b\\xe9.wav: can't be read" in sepdash("data", "check", str(folder)).out


def test_descriptions_of_presets_reach_no_terminal(sepdash, tmp_path: Path, home) -> None:
    home.presets.mkdir(parents=True)
    (home.presets / "mine.toml").write_text(
        'description = "a\\u001b[2Jb"\nextends = "demo/baseline"\n'
    )
    answer = sepdash("presets")
    assert "\x1b" not in answer.out
    assert "ab" in answer.out


@pytest.mark.parametrize("words", COMMANDS)
def test_encodings_full_disks_and_closed_pipes_are_no_tracebacks(words: tuple[str, ...]) -> None:
    latin = call(*words, env={**os.environ, "PYTHONIOENCODING": "latin-1"})
    assert (latin.returncode, latin.stderr) == (0, b"")
    with Path("/dev/full").open("wb") as full:
        command = [sys.executable, "-m", "tui.main", *words]
        no_room = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False)
    assert no_room.returncode == 2
    assert (
        no_room.stderr
        == b"sepdash: the output can't be written: No space left on device; make room and try again\n"
    )
    reader, writer = os.pipe()
    os.close(reader)
    closed = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (closed.returncode, closed.stderr) == (1, b"")
    nobody = subprocess.run(["/bin/sh", "-c", 'exec "$@" >&- 2>&-', "sh", *command], check=False)
    assert nobody.returncode == 0


@pytest.mark.parametrize(
    "words",
    [
        ("data", "check", ""),
        ("data", "index", ""),
        ("data", "voice", "", "-o", "x"),
        ("separate", "1", "", "-o", "x"),
        ("transcribe", "1", ""),
        ("features", "1", "", "-o", "x"),
        ("runs", "--home", ""),
        ("enqueue", "demo/baseline", "--set", "data.train="),
        ("plan", "demo/baseline", "--set", "data.train= "),
    ],
)
def test_an_empty_path_is_refused_and_is_not_the_current_folder(sepdash, words) -> None:
    answer = sepdash(*words)
    assert answer.code == 2
    assert "the path is empty" in answer.err.replace("a path is", "the path is")
    assert answer.err.count("\n") == 1


def test_the_dashboard_asks_for_a_terminal_that_can_draw(sepdash, monkeypatch) -> None:
    monkeypatch.setattr("tui.cli.common.has_terminal", lambda: True)
    monkeypatch.setattr("tui.apps.dashboard.SepdashApp.run", lambda app: pytest.fail("it opened"))
    monkeypatch.setenv("TERM", "dumb")
    answer = sepdash()
    assert answer.code == 2
    assert "TERM is dumb" in answer.err
    assert "sepdash runs" in answer.err


def test_homes_of_odd_names_are_one_home(sepdash, tmp_path: Path) -> None:
    """Every connection to a store goes to the store: no stray file, nothing called sound that is another."""
    odd = tmp_path / "h%41#x?mode=rwc&y"
    for words in (("runs",), ("presets",), ("doctor",)):
        assert sepdash("--home", str(odd), *words).code == 0
    from jobs.home import Home
    from jobs.store.writer import StoreWriter

    home = Home(odd)
    home.create()
    StoreWriter(home.store).close()
    home.store.write_bytes(home.store.read_bytes()[:2000] + b"x" * 4000)
    answer = sepdash("--home", str(odd), "doctor")
    assert "intact" not in answer.out
    assert sorted(path.name for path in tmp_path.iterdir()) == [odd.name]
