"""The tickets of one worker: the queue file, and the thread of Huey's consumer that takes them.

The queue holds nothing that the store does not, so a damaged file is put aside and made anew.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

from huey.consumer import Consumer

from jobs.queue import QueueDamaged, RunQueue

# The consumer asks ten times a second; what it says of one trouble is said once in that time.
_REPEATED_S = 600.0
_LOGGERS = ("huey", "huey.consumer", "huey.consumer.Worker")


class Tickets:
    """Calls `on_ticket` on a thread for each ticket in the queue file at `path`, between `start` and `end`."""

    def __init__(self, path: Path, on_ticket: Callable[[int], None]) -> None:
        self._path = path
        self._on_ticket = on_ticket
        self._damaged = False
        self._rarely = Rarely(_REPEATED_S)
        self._open()

    def _open(self) -> None:
        self._queue = RunQueue(self._path, self._on_ticket)
        self._consumer = QuietConsumer(
            self._queue.huey, workers=1, periodic=False, check_worker_health=False,
            initial_delay=0.1, max_delay=0.1, backoff=1.0, scheduler_interval=60,
        )  # fmt: skip

    def start(self) -> None:
        """Begin to take tickets."""
        for name in _LOGGERS:
            logging.getLogger(name).addFilter(self._rarely)
        self._consumer.start()

    def top_up(self, queued: list[int]) -> None:
        """Add tickets until each queued run has one, or note that the file has to be made anew.

        Raises:
            StoreUnavailable: when the file can't be used at the moment.
        """
        try:
            self._queue.top_up(queued)
        except QueueDamaged:
            self._damaged = True

    def mend(self) -> bool:
        """Make a damaged file anew, once the ticket in hand is done; return whether it was damaged.

        To be called without what `on_ticket` waits for.
        """
        if not self._damaged:
            return False
        self._damaged = False
        self._consumer.end()
        self._queue.close()
        # Opening it puts the damaged one aside, where another worker has not done so already.
        self._open()
        self._consumer.start()
        return True

    def end(self) -> None:
        """Wait until the current ticket is done, and take no more."""
        self._consumer.end()
        self._queue.close()
        for name in _LOGGERS:
            logging.getLogger(name).removeFilter(self._rarely)


class Rarely(logging.Filter):
    """Lets the same message pass once in `seconds`."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds
        self._passed: dict[object, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to pass it on."""
        now, key = time.monotonic(), (record.name, record.msg)
        passes = now - self._passed.get(key, float("-inf")) >= self._seconds
        if passes:
            self._passed[key] = now
        return passes


class QuietConsumer(Consumer):  # type: ignore[misc]
    """Huey's consumer without its signal handlers."""

    def _set_signal_handlers(self) -> None:
        """Do nothing: the worker handles signals."""

    def end(self) -> None:
        """Wait until the thread has finished its current ticket."""
        self.stop_flag.set()
        for _, thread in self.worker_threads:
            if thread.is_alive():
                thread.join()
