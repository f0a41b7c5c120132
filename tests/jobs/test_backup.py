"""Backup and restore: what comes back is what was there, nothing is lost, and a forged file writes nowhere else."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import threading
from pathlib import Path
from typing import Any

import pytest

from jobs import submit
from jobs.backup import BackupError, backup, restore, runs_without_files
from jobs.home import Home
from jobs.machine.lease import DeviceLease
from jobs.machine.processes import own_token
from jobs.store.errors import StoreError
from jobs.store.reader import StoreReader
from jobs.store.schema import SCHEMA_VERSION
from jobs.store.writer import StoreWriter


@pytest.fixture
def full(home: Home, make_config: Any) -> Home:
    """A home with a run that was trained, a preset, an answer, and files that belong to no backup."""
    run_id = submit.enqueue(home, make_config(), name="night")
    with StoreWriter(home.store) as store:
        store.add_points(run_id, steps=[1, 2], series={"loss": [0.5, 0.25]}, units={})
        store.update_run(run_id, updates=2)
    (home.presets / "own.toml").write_text('recipe = "separation"\n')
    home.listening.mkdir()
    (home.listening / "answers.jsonl").write_text("{}\n")
    (home.listening / "applied").mkdir()
    (home.listening / "applied" / "large.wav").write_bytes(b"0" * 1000)
    (home.root / "worker.log").write_text("started\n")
    return home


def curve(home: Home) -> list[float]:
    """Return the loss of run 1."""
    with StoreReader(home.store) as reader:
        return [float(value or 0.0) for value in reader.curve(1, "loss").last]


def test_a_restored_home_has_what_was_there(full: Home, tmp_path: Path) -> None:
    file = tmp_path / "out" / "backup.tar"
    made = backup(full, file)
    assert (made.num_runs, made.num_files, file.stat().st_mode & 0o077) == (1, 2, 0)
    assert [path.name for path in file.parent.iterdir()] == ["backup.tar"]
    with tarfile.open(file) as archive:
        assert sorted(archive.getnames()) == [
            "backup.json", "listening/answers.jsonl", "presets/own.toml", "runs.db",
        ]  # fmt: skip

    new = Home(tmp_path / "new")
    found = restore(new, file)
    assert (found.num_runs, found.num_files, found.put_aside) == (1, 2, None)
    assert curve(new) == [0.5, 0.25]
    assert (new.presets / "own.toml").read_text() == 'recipe = "separation"\n'
    assert runs_without_files(new) == 1
    assert all(path.stat().st_mode & 0o077 == 0 for path in new.root.rglob("*"))
    with StoreWriter(new.store) as store:
        assert store.claim(store.add_worker("cpu", pid=os.getpid(), token=own_token())) == 1


def test_a_backup_is_of_one_moment_while_a_worker_writes(full: Home, tmp_path: Path) -> None:
    ended = threading.Event()

    def write() -> None:
        with StoreWriter(full.store) as store:
            step = 10
            while not ended.is_set():
                with store.transaction():
                    for name in ("a", "b"):
                        store.add_points(1, steps=[step], series={name: [1.0]}, units={})
                step += 1

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for number in range(3):
            backup(full, tmp_path / f"{number}.tar")
    finally:
        ended.set()
        thread.join()
    for number in range(3):
        new = Home(tmp_path / f"new{number}")
        restore(new, tmp_path / f"{number}.tar")
        with StoreReader(new.store) as reader:
            a, b = (reader.curve(1, name).updates for name in ("a", "b"))
        assert a == b


def test_nothing_is_replaced_without_a_word_and_then_put_aside(full: Home, tmp_path: Path) -> None:
    file = tmp_path / "backup.tar"
    backup(full, file)
    with pytest.raises(BackupError, match="--replace"):
        backup(full, file)
    (full.presets / "own.toml").write_text("changed\n")
    with StoreWriter(full.store) as store:
        store.add_points(1, steps=[3], series={"loss": [0.125]}, units={})
    with pytest.raises(BackupError, match="--replace"):
        restore(full, file)
    assert curve(full) == [0.5, 0.25, 0.125]

    found = restore(full, file, replace=True)
    assert curve(full) == [0.5, 0.25]
    assert found.put_aside == full.root / "before-restore"
    assert (found.put_aside / "presets" / "own.toml").read_text() == "changed\n"
    assert curve(Home(found.put_aside)) == [0.5, 0.25, 0.125]
    assert restore(full, file, replace=True).put_aside == full.root / "before-restore-2"


def test_a_preset_of_a_home_without_runs_is_put_aside(full: Home, tmp_path: Path) -> None:
    backup(full, tmp_path / "backup.tar")
    new = Home(tmp_path / "new").create()
    (new.presets / "own.toml").write_text("mine\n")
    found = restore(new, tmp_path / "backup.tar")
    assert found.put_aside is not None
    assert (found.put_aside / "presets" / "own.toml").read_text() == "mine\n"


def test_an_active_worker_refuses_a_restore(full: Home, tmp_path: Path) -> None:
    backup(full, tmp_path / "backup.tar")
    with DeviceLease(full.locks, "cpu"), pytest.raises(BackupError, match="is active"):
        restore(full, tmp_path / "backup.tar", replace=True)
    restore(full, tmp_path / "backup.tar", replace=True)


def test_no_store_is_said(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="nothing to back up"):
        backup(Home(tmp_path / "none"), tmp_path / "backup.tar")
    assert not (tmp_path / "backup.tar").exists()


def forged(
    path: Path, *, change: Any = None, name: str = "", kind: bytes = tarfile.REGTYPE
) -> Path:
    """Write a backup whose list is what `change` makes of a sound one, with a member of some name and kind."""
    store = b"no database, " * 99
    entry = {"size_bytes": len(store), "sha256": hashlib.sha256(store).hexdigest()}
    about = {"format": 1, "created_at": 1.0, "num_runs": 1, "files": {"runs.db": entry}}
    if name:
        about["files"][name] = entry  # type: ignore[index]
    about = change(about) if change else about
    with tarfile.open(path, "w") as archive:
        text = json.dumps(about).encode()
        for member, data in (("backup.json", text), ("runs.db", store), (name, store)):
            if member:
                info = tarfile.TarInfo(member)
                info.size = len(data)
                if member == name:
                    info.type, info.linkname = kind, "/etc/passwd"
                archive.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize(
    "options",
    [
        {"name": "../outside"},
        {"name": "presets/../../outside"},
        {"name": "/tmp/outside"},
        {"name": "runs/000001/log.txt"},
        {"name": "presets/link", "kind": tarfile.SYMTYPE},
        {"change": lambda about: {**about, "format": 99}},
        {"change": lambda about: [about]},
        {"change": lambda about: {**about, "files": {}}},
        {"change": lambda about: {**about, "files": {"runs.db": 5}}},
        {"change": lambda about: {**about, "num_runs": "x", "created_at": "y"}},
    ],
)
def test_a_forged_backup_is_refused_and_changes_nothing(tmp_path: Path, options: Any) -> None:
    file = forged(tmp_path / "forged.tar", **options)
    home = Home(tmp_path / "home")
    with pytest.raises((BackupError, StoreError)):
        restore(home, file)
    assert not home.store.exists()
    assert not [path for path in home.root.rglob("*") if path.is_file()]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["forged.tar", "home"]


def test_damage_and_a_newer_version_are_told(full: Home, tmp_path: Path) -> None:
    file = tmp_path / "backup.tar"
    backup(full, file)
    whole = file.read_bytes()
    for damaged in (
        whole[: len(whole) // 2],
        b"",
        b"garbage" * 999,
        whole.replace(b"night", b"NIGHT"),
    ):
        file.write_bytes(damaged)
        with pytest.raises(BackupError):
            restore(Home(tmp_path / "new"), file)
    with StoreWriter(full.store) as store:
        store._connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    with pytest.raises(StoreError, match="newer"):
        backup(full, tmp_path / "newer.tar")
    assert not (tmp_path / "newer.tar").exists()
