"""Locks that end with their process: one worker per device, one user of it at a time, one process per run."""

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
        self._file = file
        self.describe("")
        return True

    def describe(self, purpose: str) -> None:
        """Write what the lock is held for, for `purpose` in other processes."""
        assert self._file is not None, "the lock is not held"
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()} {purpose}".encode(), 0)

    def holder(self) -> str:
        """Return the process id in the file."""
        return self._read()[0] or "unknown"

    def purpose(self) -> str:
        """Return what the holder wrote with `describe`; empty when it wrote nothing."""
        return self._read()[1]

    def _read(self) -> tuple[str, str]:
        try:
            pid, _, purpose = self.path.read_text(encoding="utf-8").partition(" ")
        except OSError:
            return "", ""
        return pid.strip(), purpose.strip()

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


class DeviceUse:
    """The right to compute on a device, as a context manager: for a run, or for measurements.

    A worker registers for a device by `DeviceLease` as long as it lives, and takes this for each of its
    runs. So another program, `sepdash tune` for example, can use the device of an idle worker, which
    starts no run meanwhile.

    Args:
        locks: the folder of locks.
        device: its name, like cuda:0.
        purpose: what for, and how a person can end it; shown to whoever is refused.

    Raises:
        LeaseError: on entry, when another process uses the device.
    """

    def __init__(self, locks: Path, device: str, *, purpose: str) -> None:
        self._device = device
        self._purpose = purpose
        self._lock = FileLock(locks / f"{device.replace(':', '-')}.use.lock")

    def __enter__(self) -> DeviceUse:
        if not self._lock.acquire():
            purpose = self._lock.purpose() or "another program"
            raise LeaseError(
                f"{self._device} is in use by process {self._lock.holder()}: {purpose}"
            )
        self.describe(self._purpose)
        return self

    def describe(self, purpose: str) -> None:
        """Change the purpose, once it is known in more detail."""
        self._lock.describe(purpose)

    def __exit__(self, *error: object) -> None:
        self._lock.release()
