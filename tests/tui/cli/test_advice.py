"""A message that tells a person what to do is obeyed: it helps, and nothing is lost."""

from __future__ import annotations

import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from engine.config.overrides import config_with
from jobs.home import Home
from jobs.queue import RunQueue
from jobs.store.errors import failed
from presets.catalogue import Catalogue

# Holds a file as a program does that has opened the store by hand, until its standard input ends.
HOLDER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA journal_mode = DELETE")
connection.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody wait for a lock for longer than a moment."""
    connect = sqlite3.connect

    def at_once(*arguments: Any, **options: Any) -> sqlite3.Connection:
        return connect(*arguments, **{**options, "timeout": 0.05})

    monkeypatch.setattr(sqlite3, "connect", at_once)


@pytest.fixture
def audio(tmp_path: Path, write_tone: Callable[[Path], Path]) -> Path:
    """Folders of audio: train, valid, noise."""
    for key in ("train", "valid", "noise"):
        for number in range(3):
            write_tone(tmp_path / key / f"{number}.wav")
    return tmp_path


def data_of(audio: Path, *keys: str) -> list[str]:
    return [word for key in keys for word in ("--set", f"data.{key}={audio / key}")]


@pytest.fixture
def queued(sepdash: Any, audio: Path) -> Home:
    """A home with one queued run, night-1."""
    words = data_of(audio, "train", "valid", "noise")
    assert sepdash("enqueue", "denoise/small", "--name", "night-1", *words).code == 0
    return Home.locate(None)


def names(sepdash: Any) -> list[str]:
    answer = sepdash("runs")
    assert answer.code == 0, answer.err
    return re.findall(r"night-\d", answer.out)


@pytest.fixture
def holder(queued: Home) -> Iterator[Callable[[Path], subprocess.Popen[str]]]:
    """Return a function that lets another process lock a file."""
    started: list[subprocess.Popen[str]] = []

    def hold(path: Path) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(path)],
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return process

    yield hold
    for process in started:
        process.kill()
        process.communicate()


def test_a_locked_store_names_who_holds_it_and_is_not_moved_away(
    sepdash: Any, queued: Home, holder: Any, impatient: None
) -> None:
    process = holder(queued.store)
    for words in (("runs",), ("stop", "1"), ("show", "night-1")):
        answer = sepdash(*words)
        assert answer.code == 2
        assert "another program keeps this file locked" in answer.err
        assert "move" not in answer.err
        if Path("/proc/self/fd").exists():
            assert f"(process {process.pid})" in answer.err
    process.communicate()  # "wait until it has finished"
    assert names(sepdash) == ["night-1"]
    assert sepdash("stop", "1").code == 0


def test_a_locked_queue_is_not_deleted(queued: Home, holder: Any) -> None:
    holder(queued.queue)
    with (
        closing(sqlite3.connect(queued.queue, timeout=0)) as connection,
        pytest.raises(sqlite3.OperationalError) as caught,
    ):
        connection.execute("SELECT * FROM task").fetchall()
    said = str(failed(queued.queue, caught.value, doing="written"))
    assert "keeps this file locked" in said
    assert "move" not in said


def test_a_damaged_store_is_moved_away_and_stays_whole(sepdash: Any, queued: Home) -> None:
    for path in queued.root.glob("runs.db*"):
        path.unlink()
    queued.store.write_bytes(b"no database at all" * 99)
    answer = sepdash("runs")
    assert (answer.code, "move the file away to start with an empty store" in answer.err) == (
        2,
        True,
    )
    kept = queued.store.rename(queued.root / "old.db")
    assert names(sepdash) == []
    assert kept.read_bytes() == b"no database at all" * 99


def test_a_damaged_queue_is_put_aside_and_no_run_is_lost(sepdash: Any, queued: Home) -> None:
    for path in queued.root.glob("queue.db*"):
        path.unlink()
    queued.queue.write_bytes(b"no database at all" * 99)
    queue = RunQueue(queued.queue)
    assert (queued.root / "queue.db.broken").read_bytes() == b"no database at all" * 99
    assert names(sepdash) == ["night-1"]
    queue.top_up([1])  # as a worker does when it starts
    assert queue.size() == 1


def test_data_that_are_not_there_are_given_as_the_message_says(sepdash: Any, audio: Path) -> None:
    words: list[str] = []
    for _ in range(3):
        answer = sepdash("enqueue", "denoise/small", "--name", "night-1", *words)
        if answer.code == 0:
            break
        missing = re.findall(r"--set (data\.\w+)=PATH", answer.err)
        assert missing
        for key in missing:
            words += ["--set", f"{key}={audio / key.partition('.')[2]}"]
    assert names(sepdash) == ["night-1"]


def test_a_name_that_is_taken_loses_no_run(sepdash: Any, queued: Home, audio: Path) -> None:
    words = ["enqueue", "denoise/small", *data_of(audio, "train", "valid", "noise"), "--name"]
    answer = sepdash(*words, "night-1")
    assert (answer.code, "choose another name" in answer.err) == (2, True)
    assert sepdash(*words, "night-2").code == 0
    assert sorted(names(sepdash)) == ["night-1", "night-2"]


def test_what_was_mistyped_is_what_is_suggested(sepdash: Any, queued: Home) -> None:
    for words in (["rns"], ["show", "nigt-1"], ["presets", "denoise/smal"], ["runs", "--jsn"],
                  ["presets", "denoise/small", "--full", "--set", "optimizer.lrr=1e-3"]):  # fmt: skip
        answer = sepdash(*words)
        assert answer.code == 2
        meant = re.search(r"[Dd]id you mean '([^']+)'", answer.err)
        assert meant is not None, answer.err
        wrong = words[-1].partition("=")[0].rpartition(".")[2]
        right = meant[1].rpartition(".")[2]
        again = [*words[:-1], words[-1].replace(wrong, right)]
        assert sepdash(*again).code == 0, again


def test_a_folder_that_is_there_is_chosen_anew_or_removed(sepdash: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    wave = 0.3 * rng.normal(size=8_000 * 9)
    wave[8_000 * 4 : 8_000 * 5] = 0
    soundfile.write(tmp_path / "interview.wav", wave, 8_000)
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("kept")
    words = ["data", "cut", str(tmp_path / "interview.wav"), "-o"]
    answer = sepdash(*words, str(out))
    assert (answer.code, "choose another folder or remove it" in answer.err) == (2, True)
    assert sepdash(*words, str(tmp_path / "other")).code == 0
    assert (out / "mine.txt").read_text() == "kept"
    shutil.rmtree(out)
    assert sepdash(*words, str(out)).code == 0


def obeyed(message: str, assignments: list[str]) -> list[str]:
    """Return the assignments as a message says that they should be."""
    subject = message.partition(" ")[0]
    section = subject.removesuffix(":") if subject.endswith(":") else ""
    if "remove this setting" in message:
        return [text for text in assignments if not text.startswith(f"{subject}=")]
    if raised := re.search(r"raise (\S+) or lower (\S+)$", message):
        values = dict(text.split("=", 1) for text in assignments)
        return [*assignments, f"{raised[1]}={values[raised[2]]}"]
    found = re.search(r"\bset (\S+) (?:=|to) (\S+)", message)
    assert found, message
    key = subject if found[1] == "it" else found[1]
    key = f"{section}.{key}" if section and "." not in key else key
    return [*assignments, f"{key}={found[2].strip(',').strip(chr(39))}"]


@pytest.mark.parametrize(
    ("preset", "assignments"),
    [
        ("stems/vocals-small", ["data.short_files=whole", "data.remix=0.5"]),
        ("stems/vocals", ["data.mixture=mix", "data.gain_db=3"]),
        ("codec/small", ["data.fit=pad"]),
        ("codec/small", ["data.probe=x"]),
        ("codec/small", ["data.normalize_waveform=true"]),
        ("denoise/small", ["precision.devices=8", "batch.items=4"]),
        ("denoise/small", ["loss.kind=rnnt"]),
        ("transducer/digits", ["validation.clips=3"]),
        ("transducer/digits", ["codec=x"]),
        ("voice/small", ["codec=x", "loss.text_loss_weight=0", "loss.mel_loss_weight=0"]),
        ("ctc/small", ["data.num_mels=16", "data.freq_mask_mels=20"]),
    ],
)
def test_settings_that_do_not_fit_are_changed_as_the_message_says(
    preset: str, assignments: list[str]
) -> None:
    values = Catalogue().read(preset)
    messages = []
    for _ in range(4):
        try:
            config_with(values, assignments)
        except ValueError as error:
            messages.append(str(error))
            assignments = obeyed(str(error).splitlines()[0], assignments)
        else:
            break
    assert messages, "nothing was wrong"
    config_with(values, assignments)
