"""Checks whether a process recorded earlier is still the same, living process.

Process ids are reused, so a token of the start time is recorded with them.
Standard library only on Linux; psutil elsewhere.
"""

from __future__ import annotations

import os
from pathlib import Path


def process_token(pid: int) -> str:
    """Return text that identifies this process among all with the same id; empty when it has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return "" if Path("/proc/self/stat").exists() else _portable_token(pid)
    state, *fields = stat.rpartition(")")[2].split()
    return "" if state in "ZX" else f"{fields[18]}.{_boot_id()}"


def is_alive(pid: object, token: object) -> bool:
    """Return whether the process recorded as (pid, token) is still running; a zombie is not.

    A number without its token is nobody: the process that has it now may be anybody's. Both may come
    from a store that others wrote.
    """
    if not isinstance(pid, int) or isinstance(pid, bool) or pid <= 1 or not token:
        return False
    return process_token(pid) == token


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8]
    except OSError:
        return ""


def _portable_token(pid: int) -> str:
    import psutil

    try:
        process = psutil.Process(pid)
        return "" if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.2f}"
    except psutil.Error:
        return ""


def own_token() -> str:
    """Return the token of this process."""
    return process_token(os.getpid())
