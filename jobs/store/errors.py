"""Errors of the run store, with messages for users."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Literal

_LOCKED = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_NO_STORE = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)


class StoreError(ValueError):
    """The store can't fulfil a request: unreadable, too new, full, or an invalid request."""


class StoreUnavailable(StoreError):
    """The store can't be used at the moment: locked for long, or the disk is full. A run does not end by it."""


class UnknownRun(StoreError):
    """No run has this id or name."""


class StateError(StoreError):
    """The state of the run does not allow the request."""


def failed(
    path: Path,
    error: sqlite3.Error,
    *,
    doing: Literal["read", "written"],
) -> StoreError:
    """Return the error of a file that could not be read or written, with what helps and loses nothing.

    Args:
        path: of the store or of the queue.
        error: what SQLite says.
        doing: what could not be done.
    """
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in _LOCKED:
        return StoreUnavailable(
            f"{path}: another program keeps this file locked{_holders(path)}; wait until it has finished, or end "
            "it, and try again"
        )
    if code in _NO_STORE:
        return StoreError(
            f"{path}: is not a readable run store ({error}); move the file away to start with an empty store"
        )
    room = "; free some space and try again" if code == sqlite3.SQLITE_FULL else ""
    # Of a full disk or an error of it, no run ends; a file that is no database is one for good.
    kind = StoreUnavailable if isinstance(error, sqlite3.OperationalError) else StoreError
    return kind(f"{path}: can't be {doing}: {error}{room}")


def is_locked(error: StoreError) -> bool:
    """Return whether an error came of a lock that somebody else holds."""
    code = getattr(error.__cause__, "sqlite_errorcode", 0) & 0xFF
    return code in _LOCKED


def _holders(path: Path) -> str:
    """Return which other processes of this user have a file open, where the system says so."""
    found = []
    place = os.path.realpath(path)
    for process in Path("/proc").glob("[0-9]*"):
        try:
            opened = [link.readlink() for link in (process / "fd").iterdir()]
            if Path(place) in opened and int(process.name) != os.getpid():
                name = (process / "comm").read_text(errors="replace").strip()
                found.append(f"{name} (process {process.name})")
        except OSError:
            continue
    return f": {', '.join(found[:5])} may do so" if found else ""
