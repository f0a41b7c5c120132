"""Saving during training: one writer thread, one save in flight.

The training thread copies the tensors (a snapshot into reused buffers) and hands them over;
hashing, writing and fsync run in parallel with the next updates. Errors are raised on the training thread.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.checkpoints.files import Manifest, write_checkpoint
from engine.checkpoints.layout import list_last


@dataclass(frozen=True, slots=True)
class Save:
    """One directory to write: `name` below the checkpoint folder, and its content."""

    name: str
    about: dict[str, Any]
    tensors: dict[str, dict[str, Tensor]]
    documents: dict[str, dict[str, Any]] | None = None


class SnapshotBuffers:
    """CPU copies of named tensors, in buffers reused by every save."""

    def __init__(self) -> None:
        self._buffers: dict[str, Tensor] = {}

    def take(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Copy `tensors`; the copies are valid until the next call."""
        copies = {}
        for name, tensor in tensors.items():
            buffer = self._buffers.get(name)
            if buffer is None or buffer.shape != tensor.shape or buffer.dtype != tensor.dtype:
                pinned = tensor.is_cuda
                buffer = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=pinned)
            copies[name] = buffer.copy_(tensor, non_blocking=True)
        if any(tensor.is_cuda for tensor in tensors.values()):
            torch.cuda.synchronize()
        self._buffers = copies
        return dict(copies)


class CheckpointWriter:
    """Writes saves in order on its own thread; a context manager that waits for the last one on exit."""

    def __init__(self, folder: Path, *, keep_last: int) -> None:
        self._folder = folder
        self._keep_last = keep_last
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoints")
        self._job: Future[list[Manifest]] | None = None

    def __enter__(self) -> CheckpointWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self._thread.shutdown(wait=True)

    def submit(self, saves: Sequence[Save]) -> None:
        """Start writing; call `wait` first, the snapshot buffers are reused."""
        assert self._job is None, "wait before submitting again"
        self._job = self._thread.submit(self._write, list(saves))

    def poll(self) -> list[Manifest]:
        """Return what was completed since the last call, without waiting.

        Raises:
            CheckpointError: when a save failed.
        """
        return self.wait() if self._job is not None and self._job.done() else []

    def wait(self) -> list[Manifest]:
        """Wait for the save in flight and return what it completed.

        Raises:
            CheckpointError: when a save failed.
        """
        job, self._job = self._job, None
        return job.result() if job is not None else []

    def _write(self, saves: list[Save]) -> list[Manifest]:
        done = []
        for save in saves:
            folder = self._folder / save.name
            done.append(
                write_checkpoint(folder, save.about, tensors=save.tensors, documents=save.documents)
            )
        self._prune()
        return done

    def _prune(self) -> None:
        for folder in list_last(self._folder)[self._keep_last :]:
            shutil.rmtree(folder, ignore_errors=True)
