"""Batches in plan order: read in this process, on a thread, or by reader processes.

Owns the choice between the three and their orderly end. What comes out is the same for each, since
every item is a pure function of the plan.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from queue import Empty, Queue
from typing import Self

import torch

from engine.batching.batch import Batch
from engine.batching.plan import Plan
from engine.data.reading.lost_files import Fetch
from engine.data.reading.reader_processes import ReaderDied, ReaderPool, ReadJob

# Deaths of readers in one process of a run, before that ends, too.
MOST_RESTARTS = 3


class Loader:
    """The batches of a plan, update by update, without end; close it, or use it in `with`.

    Args:
        fetch: reads and collates items, for example `partial(recipe.fetch, "train")`; with reader
            processes it must be picklable.
        plan: which items form which micro-batch.
        workers: number of reader processes; 0 reads in this process.
        prefetch: micro-batches kept ready by each reader, or by the thread.
        start_update: the first update, counted from 0, that is read.
        background: receive on a thread, so that the caller never waits for a batch that is ready.
        pin_memory: put batches into page-locked memory, for copies to a GPU that don't block.
    """

    def __init__(
        self,
        fetch: Fetch,
        plan: Plan,
        *,
        workers: int = 0,
        prefetch: int = 2,
        start_update: int = 0,
        background: bool = False,
        pin_memory: bool = False,
    ) -> None:
        self._fetch, self._plan = fetch, plan
        self._workers, self._prefetch = workers, prefetch
        self._background, self._pin_memory = background, pin_memory
        self._update = start_update
        self._restarts = 0
        # What a person should know, until it is taken.
        self._notices: list[str] = []
        self._open()

    def _open(self) -> None:
        job = ReadJob(self._fetch, self._plan, start_update=self._update)
        pins, prefetch = self._pin_memory, self._prefetch
        self._pool: ReaderPool | None = None
        if self._workers:
            self._pool = ReaderPool(job, workers=self._workers, prefetch=prefetch, pin_memory=pins)
            batches = self._pool.batches()
        else:
            batches = _pinned(job.batches()) if pins else job.batches()
        self._ahead = _Ahead(batches, depth=prefetch) if self._background else None
        self._batches: Iterator[Batch] = batches if self._ahead is None else self._ahead.batches()

    def __iter__(self) -> Iterator[Batch]:
        """Return the iterator itself: a loader is walked once."""
        return self

    def __next__(self) -> Batch:
        """Return the next micro-batch.

        Raises:
            ReaderDied: when a reader process has exited; errors of `fetch` are raised here, too.
        """
        return next(self._batches)

    def update(self) -> list[Batch]:
        """Return all micro-batches of the next update; raises what `next` raises.

        Where a reader process has died, most often for lack of memory, it goes on with half as many.
        """
        num = sum(map(bool, map(len, self._plan.micro_batches(self._update))))
        while True:
            try:
                batches = [next(self._batches) for _ in range(num)]
            except ReaderDied as error:
                if self._restarts == MOST_RESTARTS:
                    raise
                self._restart(error)
            else:
                self._update += 1
                return batches

    def _restart(self, error: ReaderDied) -> None:
        self.close()
        self._restarts += 1
        self._workers = max(1, self._workers // 2)
        self._notices.append(f"{error}; reading goes on with {self._workers} reader process(es)")
        self._open()

    def take_notices(self) -> list[str]:
        """Return what happened since the last call that a person should know."""
        notices, self._notices = self._notices, []
        return notices

    @property
    def process_ids(self) -> list[int]:
        """Return the process ids of the readers; empty without workers."""
        return self._pool.process_ids if self._pool else []

    def close(self) -> None:
        """End the readers and the thread; may be called more than once."""
        if self._ahead is not None:
            self._ahead.stop()
        if self._pool is not None:
            self._pool.terminate()
        if self._ahead is not None:
            self._ahead.join()
        if self._pool is not None:
            self._pool.close()

    def __enter__(self) -> Self:
        """Return the loader."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close the loader."""
        self.close()


class _Ahead:
    """A thread that fills a queue with the next batches."""

    def __init__(self, source: Iterator[Batch], *, depth: int) -> None:
        self._source = source
        self._queue: Queue[Batch | Exception] = Queue(depth)
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="loader", daemon=True)
        self._thread.start()

    def batches(self) -> Iterator[Batch]:
        while True:
            batch = self._queue.get()
            if isinstance(batch, Exception):
                raise batch
            yield batch

    def stop(self) -> None:
        self._stopping = True

    def join(self) -> None:
        while self._thread.is_alive():
            try:
                self._queue.get(timeout=0.05)
            except Empty:
                continue

    def _run(self) -> None:
        while not self._stopping:
            try:
                batch: Batch | Exception = next(self._source)
            except Exception as error:  # noqa: BLE001 (handed over: the consumer raises it)
                batch = error
                self._stopping = True
            self._queue.put(batch)


def _pinned(source: Iterator[Batch]) -> Iterator[Batch]:
    for batch in source:
        tensors = {name: _pin(tensor) for name, tensor in batch.tensors.items()}
        yield Batch(tensors, batch.lost)


def _pin(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.pin_memory()
