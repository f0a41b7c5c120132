"""Waiting for room on the disk: a run that could not be saved waits, and so does the queue."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

# It is tried again once so much more is free, or after so long: what a checkpoint needs is not known.
_MORE_BYTES = 100 * 2**20
_AGAIN_S = 1800.0


class Room:
    """Whether runs may start, after the disk below `path` was too full to save one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._needed: int | None = None
        self._until = 0.0

    def was_short(self) -> str:
        """Note that a run could not be saved; return what to tell the user."""
        free = self._free()
        self._needed = free + _MORE_BYTES
        self._until = time.monotonic() + _AGAIN_S
        return (
            f"the disk is full ({free / 2**20:,.0f} MiB free at {self._path}): the queue pauses; free some "
            f"space, for example by `sepdash rm` of old runs, and it goes on by itself"
        )

    def is_short(self) -> bool:
        """Return whether runs have to wait."""
        if self._needed is None:
            return False
        if self._free() >= self._needed or time.monotonic() >= self._until:
            self._needed = None
        return self._needed is not None

    def _free(self) -> int:
        try:
            return shutil.disk_usage(self._path).free
        except OSError:
            return 0
