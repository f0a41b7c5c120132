"""Processor and memory of this machine, without torch."""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CLEAR = "/proc/self/clear_refs"
# Parameter numbers of mallopt(3).
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_OWN_PAGES_FROM_BYTES = 2**16
_MOST_BYTES = 2**25


def memory_of_machine() -> tuple[int, int]:
    """Return the free and the total bytes of main memory."""
    import psutil

    memory = psutil.virtual_memory()
    return int(memory.available), int(memory.total)


def resident_bytes() -> int:
    """Return the resident memory of this process in bytes."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def can_reset_peak() -> bool:
    """Return whether the peak of resident memory can be read and reset here (Linux with glibc)."""
    return os.access(_CLEAR, os.W_OK) and platform.libc_ver()[0] == "glibc"


def reset_peak() -> None:
    """Reset the peak of resident memory to its current value."""
    # 5: see proc(5), clear_refs.
    Path(_CLEAR).write_text("5", encoding="ascii")


def peak_resident_bytes() -> int:
    """Return the peak of resident memory since `reset_peak`, in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


@contextmanager
def pages_of_their_own() -> Iterator[None]:
    """Return freed memory to the system at once: larger blocks get pages of their own, which is slow."""
    libc = ctypes.CDLL(None)
    libc.malloc_trim(0)
    libc.mallopt(_MMAP_THRESHOLD, _OWN_PAGES_FROM_BYTES)
    try:
        yield
    finally:
        # The maximum that glibc's dynamic threshold would reach in a process with large blocks.
        libc.mallopt(_MMAP_THRESHOLD, _MOST_BYTES)
        libc.mallopt(_TRIM_THRESHOLD, 2 * _MOST_BYTES)


def cpu_name() -> str:
    """Return the name of the processor with the number of its cores."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return f"{next(names, name)}, {os.cpu_count()} cores"


def limit_allocations(more_bytes: int) -> None:
    """Limit this process to `more_bytes` of additional memory, so that allocations fail before the machine runs out."""
    import resource

    import psutil

    most = psutil.Process().memory_info().vms + max(0, more_bytes)
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard == resource.RLIM_INFINITY or most < hard:
        resource.setrlimit(resource.RLIMIT_AS, (most, hard))
