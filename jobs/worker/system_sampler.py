"""Samples the machine while a run trains: CPU, memory, GPU. Runs in a thread of the worker.

So it does not disturb the training process, and continues when that hangs.
"""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

import psutil

from jobs.machine.devices import open_gpu
from jobs.store.errors import StoreError
from jobs.store.records import SystemRecord
from jobs.store.writer import StoreWriter

logger = logging.getLogger(__name__)

# The search for new children scans every process of the machine.
_CHILDREN_EVERY_S = 10.0


class SystemProbe:
    """Measures the machine, one process with its children, and the GPU of `device` if it is one."""

    def __init__(self, device: str, *, run_id: int | None, pid: int | None) -> None:
        self._run_id = run_id
        self._gpu = open_gpu(device)
        self._processes: list[psutil.Process] = []
        self._pid = pid
        self._looked = 0.0
        psutil.cpu_percent(interval=None)

    def sample(self) -> SystemRecord:
        """Measure now; CPU is the mean since the previous sample."""
        memory = psutil.virtual_memory()
        gpu = self._gpu.sample() if self._gpu else None
        return SystemRecord(
            time=time.time(),
            run=self._run_id,
            cpu_percent=float(psutil.cpu_percent(interval=None)),
            ram_bytes=int(memory.total - memory.available),
            ram_total_bytes=int(memory.total),
            process_ram_bytes=self._process_bytes(),
            gpu_percent=gpu.percent if gpu else None,
            vram_bytes=gpu.used_bytes if gpu else None,
            vram_total_bytes=gpu.total_bytes if gpu else None,
            gpu_name=gpu.name if gpu else None,
        )

    def _process_bytes(self) -> int | None:
        now = time.monotonic()
        try:
            if self._pid is not None and now >= self._looked:
                self._looked = now + _CHILDREN_EVERY_S
                root = psutil.Process(self._pid)
                self._processes = [root, *root.children(recursive=True)]
        except psutil.Error:
            return None
        total = 0
        for process in self._processes:
            try:
                total += process.memory_info().rss
            except psutil.Error:
                continue
        return total or None


class SystemSampler:
    """A context manager that stores a sample every `every_s` seconds."""

    def __init__(self, path: Path, probe: SystemProbe, *, every_s: float) -> None:
        self._path = path
        self._probe = probe
        self._every_s = every_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="system-sampler", daemon=True)

    def __enter__(self) -> SystemSampler:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        told = False
        while not self._ended.is_set():
            try:
                with StoreWriter(self._path) as store:
                    while True:
                        store.add_system(self._probe.sample())
                        told = False
                        if self._ended.wait(self._every_s):
                            return
            except (StoreError, OSError):
                # A store that is locked or a disk that is full may be well again at the next sample.
                if not told:
                    logger.exception("a system sample can't be stored; trying again")
                told = True
                self._ended.wait(self._every_s)
