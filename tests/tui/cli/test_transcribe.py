"""Claims about `sepdash transcribe`: what is refused, what is passed on to the child."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tui.cli import transcribe as module


@pytest.fixture
def sound(tmp_path: Path) -> str:
    """A file that is no audio."""
    path = tmp_path / "a.wav"
    path.write_bytes(b"no sound")
    return str(path)


def test_what_has_no_checkpoint_is_refused(sepdash, lab, sound, tmp_path: Path) -> None:
    lab.run("one")
    for model, message in [
        ("one", "run one has no checkpoint yet (state: queued)"),
        ("onee", "no run 'onee', did you mean 'one'?"),
        (f"{tmp_path}/none", "is not a checkpoint folder: it has no manifest.json"),
    ]:
        answer = sepdash("transcribe", model, sound)
        assert (answer.code, message in answer.err) == (2, True)
    assert "does not exist" in sepdash("transcribe", "one", "missing.wav").err
    both = sepdash("transcribe", "one", sound, "--stream", "--json")
    assert (both.code, "remove --json, --out and --beam" in both.err) == (2, True)
    assert "0 is not in the range" in sepdash("transcribe", "one", sound, "--beam", "0").err


def test_the_child_gets_the_best_checkpoint_and_every_option(
    sepdash, lab, sound, tmp_path: Path, monkeypatch
) -> None:
    run = lab.run("one")
    for kind, wer in [("best-wer", 0.25), ("best-wer_ema", 0.125)]:
        name = kind.removeprefix("best-")
        folder = lab.home.run_folder(run) / "checkpoints" / kind
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text(json.dumps({"metrics": {name: wer}}))
    commands = []

    def start(command, check):
        commands.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(module.subprocess, "run", start)
    assert sepdash("transcribe", "one", sound, "--beam", "4", "--longest", "8", "--json").code == 0
    (command,) = commands
    assert command[1:4] == ["-P", "-m", "engine.programs.transcribe"]
    assert set(command[4:]) == {
        "--device=auto", "--beam=4", "--longest=8.0", "--confusions=10", "--json", "--",
        str(lab.home.run_folder(run) / "checkpoints" / "best-wer_ema"), sound,
    }  # fmt: skip


def test_the_message_of_the_child_is_passed_on(sepdash, sound, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "manifest.json").write_text("{")
    answer = sepdash("transcribe", str(folder), sound)
    assert answer.code == 2
    assert answer.err.startswith("sepdash: ")
    assert "Traceback" not in answer.err
