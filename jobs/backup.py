"""Backup and restore of a home: one file with what can't be trained again.

In a backup are the run store, presets with experiments, searches, probes, and the answers of listening tests.
Checkpoints, logs, clips and outputs are not: they are large, and `rsync` of the folder `runs` copies them. The
store is copied while workers write it; nothing in the file is executed when it is restored.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any

from jobs.home import Home
from jobs.machine.lease import FileLock
from jobs.store.reader import StoreReader
from jobs.store.schema import check_version
from models.folders import unused

FORMAT = 1
_ABOUT = "backup.json"
_STORE = "runs.db"
# Folders of a home whose files belong to a backup.
_FOLDERS = ("presets", "searches", "probes", "listening")
_LEFT_OUT = ("listening/applied",)
_DATABASES = (".db",)
_MOST_ABOUT_BYTES = 64_000_000


class BackupError(ValueError):
    """A backup can't be made or restored."""


@dataclass(frozen=True, slots=True)
class Backup:
    """What is in a backup: its file, how many runs and other files, and of when (Unix time)."""

    path: Path
    num_runs: int
    num_files: int
    created_at: float
    put_aside: Path | None = None


def backup(home: Home, path: Path, *, replace: bool = False) -> Backup:
    """Write a backup of a home to a file, whole or not at all; workers may be active.

    Raises:
        BackupError: when there is no store, or the file exists and is not to be replaced.
        StoreError: when the store can't be read.
        OSError: when the file can't be written.
    """
    if not home.store.exists():
        raise BackupError(f"{home.root} has no run store, so there is nothing to back up")
    if path.exists() and not replace:
        raise BackupError(f"{path} exists; choose another name, or replace it by --replace")
    with _aside(path) as (aside, scratch):
        files = {_STORE: _copied(home.store, scratch / "0.db")}
        for number, (name, file) in enumerate(_own_files(home), start=1):
            of_sqlite = file.suffix in _DATABASES
            files[name] = _copied(file, scratch / f"{number}.db") if of_sqlite else file
        entries = {
            name: {"size_bytes": file.stat().st_size, "sha256": _hash(file)}
            for name, file in files.items()
        }
        with StoreReader(files[_STORE]) as reader:
            num_runs = len(reader.runs())
        about = {
            "format": FORMAT, "created_at": time.time(), "num_runs": num_runs, "files": entries,
        }  # fmt: skip
        with tarfile.open(aside, "w") as archive:
            text = json.dumps(about, indent=1).encode()
            archive.addfile(_member(_ABOUT, len(text)), BytesIO(text))
            for name, file in files.items():
                with file.open("rb") as stream:
                    archive.addfile(_member(name, file.stat().st_size), stream)
        with aside.open("rb") as stream:
            os.fsync(stream.fileno())
        aside.replace(path)
    return Backup(path, num_runs, len(files) - 1, about["created_at"])  # type: ignore[arg-type]


def restore(home: Home, path: Path, *, replace: bool = False) -> Backup:
    """Put a backup into a home. Everything is checked before anything is changed.

    With `replace`, what it takes the place of is renamed to `before-restore` in the home, not deleted.

    Raises:
        BackupError: when the file is no whole backup, the home has a store and it is not to be replaced, or a
            worker is active.
        StoreError: when the store in it was written by a newer version.
    """
    if home.store.exists():
        _require_idle(home)
        if not replace:
            raise BackupError(
                f"{home.root} has runs already; choose another folder by --home, or put them aside by --replace"
            )
    home.create()
    with tempfile.TemporaryDirectory(dir=home.root, prefix=".restore-") as folder:
        scratch = Path(folder)
        about = _unpacked(path, scratch)
        with closing(sqlite3.connect(scratch / _STORE)) as connection:
            check_version(connection, scratch / _STORE)
            if connection.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
                raise BackupError(f"{path}: the store in it is damaged")
        aside = _put_aside(home, list(about["files"])) if replace else None
        for name in about["files"]:
            target = home.root / name
            if target.exists():
                # A preset of a home that never had a run.
                aside = aside or _new_aside(home)
                _move(target, aside / name)
            _move(scratch / name, target)
    _sync(home.root)
    return Backup(
        path, about["num_runs"], len(about["files"]) - 1, about["created_at"], put_aside=aside
    )


def runs_without_files(home: Home) -> int:
    """Return how many runs of a home have updates, but no folder."""
    with StoreReader(home.store) as reader:
        return sum(
            run.updates > 0 and not home.run_folder(run.id).is_dir() for run in reader.runs()
        )


@contextmanager
def _aside(path: Path) -> Iterator[tuple[Path, Path]]:
    """Yield a private file beside `path`, and a folder for copies; both are gone afterwards."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name[:40]}.") as folder:
        yield Path(folder) / "backup.tar", Path(folder)


def _own_files(home: Home) -> Iterator[tuple[str, Path]]:
    for folder in _FOLDERS:
        for file in sorted((home.root / folder).rglob("*")):
            name = file.relative_to(home.root).as_posix()
            left_out = any(name.startswith(f"{part}/") for part in _LEFT_OUT)
            # The log of a database belongs to the database, which is copied as one.
            of_log = name.endswith(("-wal", "-shm", "-journal"))
            if file.is_file() and not left_out and not of_log:
                yield name, file


def _copied(source: Path, target: Path) -> Path:
    """Copy a database that others may be writing, as it is at one moment."""
    try:
        with (
            closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as old,
            closing(sqlite3.connect(target)) as new,
        ):
            old.backup(new)
            new.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.Error as error:
        raise BackupError(f"{source} can't be copied: {error}") from error
    return target


def _member(name: str, size_bytes: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = size_bytes, 0o600, int(time.time())
    return member


def _unpacked(path: Path, scratch: Path) -> dict[str, Any]:
    """Write the files of a backup below `scratch`; return what it says of itself.

    Raises:
        BackupError: when it is no whole backup.
    """
    try:
        with tarfile.open(path, "r:") as archive:
            about = _about(archive, path)
            for name, entry in about["files"].items():
                member = archive.getmember(name)
                stream = archive.extractfile(member) if member.isreg() else None
                if stream is None or member.size != entry["size_bytes"]:
                    raise BackupError(f"{path} is damaged: {name!r:.80} is not what it should be")
                target = scratch / name
                target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                with target.open("wb") as file:
                    shutil.copyfileobj(stream, file)
                if _hash(target) != entry["sha256"]:
                    raise BackupError(f"{path} is damaged: the hash of {name!r:.80} does not match")
    except (tarfile.TarError, KeyError, EOFError, IsADirectoryError) as error:
        raise BackupError(f"{path} is not a whole backup of sepdash: {error}") from None
    return about


def _about(archive: tarfile.TarFile, path: Path) -> dict[str, Any]:
    member = archive.getmember(_ABOUT)
    stream = archive.extractfile(member) if member.isreg() else None
    try:
        about = json.loads(stream.read(_MOST_ABOUT_BYTES)) if stream is not None else None
    except (ValueError, RecursionError):
        about = None
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise BackupError(f"{path} is not a backup of this version of sepdash (format {FORMAT})")
    files = about.get("files")
    if not isinstance(files, dict) or _STORE not in files or not all(map(_is_ours, files.items())):
        raise BackupError(
            f"{path} is not a backup of sepdash: its list of files is not as it is written"
        )
    about["num_runs"] = int(about["num_runs"]) if isinstance(about.get("num_runs"), int) else 0
    stamp = about.get("created_at")
    about["created_at"] = float(stamp) if isinstance(stamp, int | float) else 0.0
    return about


def _is_ours(item: tuple[str, Any]) -> bool:
    """Return whether an entry names a file of a home that a backup has, and says what it is."""
    name, entry = item
    place = PurePosixPath(name)
    inside = name == _STORE or (len(place.parts) > 1 and place.parts[0] in _FOLDERS)
    plain = str(place) == name and ".." not in place.parts and "\0" not in name
    described = isinstance(entry, dict) and type(entry.get("size_bytes")) is int
    return inside and plain and described and isinstance(entry.get("sha256"), str)


def _require_idle(home: Home) -> None:
    # By the locks, which a worker has from its first moment on; its row comes later.
    for path in home.locks.glob("*.lock"):
        lock = FileLock(path)
        if not lock.acquire():
            raise BackupError(
                f"a worker (process {lock.holder()}) is active in {home.root}; stop it first, then restore"
            )
        lock.release()


def _new_aside(home: Home) -> Path:
    aside = unused(home.root / "before-restore")
    aside.mkdir(mode=0o700)
    return aside


def _put_aside(home: Home, names: list[str]) -> Path:
    """Move what a restore takes the place of, and all that belongs to the old store; return where it is."""
    aside = _new_aside(home)
    logs = [f"{_STORE}{end}" for end in ("-wal", "-shm")]
    queue = [f"queue.db{end}" for end in ("", "-wal", "-shm")]
    for name in (*names, *logs, *queue):
        if (home.root / name).exists():
            _move(home.root / name, aside / name)
    return aside


def _move(source: Path, target: Path) -> None:
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    source.replace(target)
    target.chmod(0o600)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
