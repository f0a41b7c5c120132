"""Locks that end with the process that holds them: one worker a device, one process a run."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path


class LeaseError(ValueError):
    """Someone else holds the lock."""


class FileLock:
    """An exclusive lock on the file at `path`, which then holds the id of this process.

    The kernel lets go of it when the process ends in any way, kill -9 included.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: int | None = None

    def acquire(self, *, timeout_s: float = 0.0) -> bool:
        """Take the lock, waiting for it at most `timeout_s`; tell whether it was got."""
        file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    os.close(file)
                    return False
                time.sleep(0.05)
        os.ftruncate(file, 0)
        os.pwrite(file, str(os.getpid()).encode(), 0)
        self._file = file
        return True

    def holder(self) -> str:
        """Return the process id that the file names."""
        try:
            return self.path.read_text().strip() or "unknown"
        except OSError:
            return "unknown"

    def release(self) -> None:
        """Let go of the lock."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


class DeviceLease:
    """A worker's claim to a device, as a context manager.

    Raises:
        LeaseError: on entry, when another worker holds the device.
    """

    def __init__(self, locks: Path, device: str) -> None:
        self._device = device
        self._lock = FileLock(locks / f"{device.replace(':', '-')}.lock")

    def __enter__(self) -> DeviceLease:
        if not self._lock.acquire():
            raise LeaseError(
                f"another worker (process {self._lock.holder()}) has the device {self._device!r}; "
                "stop it first, or give this one another --device"
            )
        return self

    def __exit__(self, *error: object) -> None:
        self._lock.release()
