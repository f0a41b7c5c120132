"""Reader processes: each fetches every n-th micro-batch of the plan and sends it through a pipe.

Owns the processes, the pipe protocol and their end. A plan is a pure function, so a reader needs no
task messages: it walks the plan by itself, and the pipe holds it back. Readers are forked from a
fresh server process, so CUDA in the trainer does no harm; they are in a process group of their own,
so signals to the trainer's group leave them alone; and they end when their pipe does, whatever ended
the trainer. Nothing passes through /dev/shm, which is tiny in containers.
"""

from __future__ import annotations

import atexit
import fcntl
import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import count, islice
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from queue import Queue
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor

from engine.batching.batch import Batch
from engine.batching.items import MicroBatch
from engine.batching.plan import Plan
from engine.config.errors import DataError
from engine.data.reading.lost_files import Fetch, fetch_readable

_PIPE_BYTES = 2**20


class ReaderDied(RuntimeError):
    """A reader process exited without an error message, usually because memory ran out."""


class ReaderFailed(RuntimeError):
    """An error other than a data problem in a reader; holds its traceback."""


@dataclass(frozen=True, slots=True)
class ReadJob:
    """The input of a reader: the plan, the first update, and how to fetch."""

    fetch: Fetch
    plan: Plan
    start_update: int

    def micro_batches(self) -> Iterator[MicroBatch]:
        """Iterate over the micro-batches of the plan, without end, skipping empty ones."""
        for update in count(self.start_update):
            yield from filter(len, self.plan.micro_batches(update))

    def batches(self) -> Iterator[Batch]:
        """Fetch the micro-batches of the plan in this process."""
        return (fetch_readable(self.fetch, one) for one in self.micro_batches())


class ReaderPool:
    """Reader processes, seen as one iterator in plan order."""

    def __init__(self, job: ReadJob, *, workers: int, prefetch: int, pin_memory: bool) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        self._pin_memory = pin_memory
        self._connections: list[Connection] = []
        self._processes: list[ForkServerProcess] = []
        for number in range(workers):
            receiver, sender = context.Pipe(duplex=False)
            with suppress(OSError, AttributeError):
                fcntl.fcntl(sender.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
            process = context.Process(
                target=_run_reader,
                args=(sender, job, number, workers, prefetch),
                name=f"reader-{number}",
                daemon=True,
            )
            process.start()
            sender.close()
            self._connections.append(receiver)
            self._processes.append(process)
        _POOLS.add(self)

    @property
    def process_ids(self) -> list[int]:
        """Return the process ids of the readers."""
        return [process.pid for process in self._processes if process.pid is not None]

    def batches(self) -> Iterator[Batch]:
        """Receive micro-batches in plan order.

        Raises:
            DataError: when a file can't be read.
            ReaderFailed: when anything else goes wrong in a reader.
            ReaderDied: when a reader process is gone.
        """
        for turn in count():
            number = turn % len(self._connections)
            try:
                yield _receive(self._connections[number], pin_memory=self._pin_memory)
            except (EOFError, ConnectionError):
                raise self._died(number) from None

    def terminate(self) -> None:
        """End the readers now; a thread that waits in `batches` gets `ReaderDied`."""
        for process in self._processes:
            process.kill()

    def close(self) -> None:
        """End the readers and free what belongs to them."""
        self.terminate()
        for process, connection in zip(self._processes, self._connections, strict=True):
            process.join()
            process.close()
            connection.close()
        self._processes.clear()
        self._connections.clear()

    def _died(self, number: int) -> ReaderDied:
        process = self._processes[number]
        process.join(timeout=5)
        return ReaderDied(
            f"reader process {number} exited unexpectedly (exit code {process.exitcode}); if memory "
            "ran out, lower batch.workers or batch.prefetch"
        )


_POOLS: WeakSet[ReaderPool] = WeakSet()


@atexit.register
def _end_readers() -> None:
    """End the readers that nobody has closed: multiprocessing waits for them at exit, and they ignore its SIGTERM."""
    for pool in list(_POOLS):
        pool.terminate()


def _run_reader(
    connection: Connection, job: ReadJob, number: int, num_readers: int, prefetch: int
) -> None:
    with suppress(PermissionError):
        os.setpgid(0, 0)
    # A service manager signals every process of it: the trainer decides what comes of it, and saves first.
    for number_of in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number_of, signal.SIG_IGN)
    torch.set_num_threads(1)
    ready: Queue[Batch | Exception] = Queue(prefetch)
    threading.Thread(target=_send_all, args=(ready, connection), daemon=True).start()
    for micro_batch in islice(job.micro_batches(), number, None, num_readers):
        ready.put(_fetch_or_error(job.fetch, micro_batch))


def _fetch_or_error(fetch: Fetch, micro_batch: MicroBatch) -> Batch | Exception:
    try:
        return fetch_readable(fetch, micro_batch)
    except DataError as error:
        return error
    except Exception:  # noqa: BLE001 (a process boundary: raised again in the trainer)
        return ReaderFailed(f"a reader process failed:\n{traceback.format_exc()}")


def _send_all(ready: Queue[Batch | Exception], connection: Connection) -> None:
    """Send ready batches until the receiver closes the pipe; then end this process."""
    try:
        while True:
            _send(connection, ready.get())
    except OSError:
        os._exit(0)


def _send(connection: Connection, message: Batch | Exception) -> None:
    if isinstance(message, Exception):
        connection.send(message)
        return
    tensors = {name: tensor.contiguous() for name, tensor in message.tensors.items()}
    shapes = {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}
    connection.send((shapes, message.lost))
    for tensor in tensors.values():
        rest = _bytes_of(tensor)
        while rest:
            rest = rest[os.write(connection.fileno(), rest) :]


def _receive(connection: Connection, *, pin_memory: bool) -> Batch:
    header: Any = connection.recv()
    if isinstance(header, Exception):
        raise header
    tensors = {}
    shapes, lost = header
    for name, (shape, dtype) in shapes.items():
        tensor = torch.empty(shape, dtype=dtype, pin_memory=pin_memory)
        rest = _bytes_of(tensor)
        while rest:
            received = os.readv(connection.fileno(), [rest])
            if not received:
                raise EOFError
            rest = rest[received:]
        tensors[name] = tensor
    return Batch(tensors, lost)


def _bytes_of(tensor: Tensor) -> memoryview:
    """Return the memory of a contiguous tensor, byte by byte."""
    flat = tensor.reshape(-1).view(torch.uint8) if tensor.numel() else tensor.new_empty(0)
    return memoryview(flat.numpy()).cast("B")  # type: ignore[arg-type]
