"""Locks that end with their process: one worker per device, one process per run."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path


class LeaseError(ValueError):
    """Another process holds the lock."""


class FileLock:
    """An exclusive lock on the file at `path`, which then contains the id of this process.

    The kernel releases it when the process ends in any way, including kill -9.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: int | None = None

    def acquire(self, *, timeout_s: float = 0.0) -> bool:
        """Acquire the lock, waiting at most `timeout_s`; return whether it was acquired."""
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
        """Return the process id in the file."""
        try:
            return self.path.read_text().strip() or "unknown"
        except OSError:
            return "unknown"

    def release(self) -> None:
        """Release the lock."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


class DeviceLease:
    """A worker's lock on a device, as a context manager.

    Raises:
        LeaseError: on entry, when another worker holds the device.
    """

    def __init__(self, locks: Path, device: str) -> None:
        self._device = device
        self._lock = FileLock(locks / f"{device.replace(':', '-')}.lock")

    def __enter__(self) -> DeviceLease:
        if not self._lock.acquire():
            raise LeaseError(
                f"another worker (process {self._lock.holder()}) is using the device {self._device!r}; "
                "stop it first, or choose another --device"
            )
        return self

    def __exit__(self, *error: object) -> None:
        self._lock.release()
