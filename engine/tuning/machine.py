"""What a machine is and has, without torch."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def memory_of_machine() -> tuple[int, int]:
    """Return the free and the total bytes of main memory."""
    import psutil

    memory = psutil.virtual_memory()
    return int(memory.available), int(memory.total)


def resident_bytes() -> int:
    """Return what this process holds of main memory."""
    import psutil

    return int(psutil.Process().memory_info().rss)


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
    """Let this process map so many bytes more; beyond, an allocation fails instead of the machine."""
    import resource

    import psutil

    most = psutil.Process().memory_info().vms + max(0, more_bytes)
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard == resource.RLIM_INFINITY or most < hard:
        resource.setrlimit(resource.RLIMIT_AS, (most, hard))
