"""Passes events from the training thread to a thread that may be slow.

Owns the bounded buffer between them: points are dropped and counted when the buffer is full; all
other events are rare, and never dropped.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from engine.events import Event, PointsRecorded

logger = logging.getLogger(__name__)

# About 20 minutes of points at the default flush interval.
_CAPACITY = 2_000
# Events that arrive within this time are handled together.
_GATHER_S = 0.1
_RETRY_S = 1.0
# SQLite waits for a lock itself.
_LONGEST_TRY_S = 40.0

Stamped = tuple[float, Event]


class Pump:
    """Hands batches of events, stamped with their Unix time, to `handle` on a thread of its own.

    A batch for which `handle` raises is logged and handed over again, until `close`.

    Args:
        handle: called with at least one event, or with none after `idle_s` without events.
        name: of the thread.
        idle_s: how long to wait for an event.
    """

    def __init__(
        self, handle: Callable[[Sequence[Stamped]], None], *, name: str, idle_s: float = 2.0
    ) -> None:
        self._handle = handle
        self._idle_s = idle_s
        self._waiting: deque[Stamped] = deque()
        self._arrived = threading.Event()
        self._closing = threading.Event()
        self._dropped = 0
        self._last_try_at = 0.0
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, event: Event, stamp: float | None = None) -> None:
        """Buffer one event, of a Unix time or now; returns at once."""
        if len(self._waiting) >= _CAPACITY and isinstance(event, PointsRecorded):
            self._dropped += len(event.updates)
            return
        self._waiting.append((time.time() if stamp is None else stamp, event))
        if not self._arrived.is_set():
            self._arrived.set()

    def holds_only(self, count: int) -> bool:
        """Return whether the buffer contains nothing after its first `count` events."""
        return len(self._waiting) <= count

    def take_dropped(self) -> int:
        """Return how many points were dropped since the last call."""
        dropped, self._dropped = self._dropped, 0
        return dropped

    def close(self, timeout_s: float = 30.0) -> bool:
        """Handle the remaining events, then end the thread; return whether all were handled.

        What fails is repeated until the time is over: a store may be locked just then.
        """
        self._last_try_at = time.monotonic() + timeout_s
        self._closing.set()
        self._arrived.set()
        self._thread.join(timeout_s + _LONGEST_TRY_S)
        return not self._thread.is_alive() and not self._waiting

    def _run(self) -> None:
        while not self._closing.is_set():
            if self._arrived.wait(self._idle_s):
                self._closing.wait(_GATHER_S)
            self._arrived.clear()
            if not self._pass_on():
                self._arrived.set()
                self._closing.wait(_RETRY_S)
        while self._waiting and not self._pass_on() and time.monotonic() < self._last_try_at:
            time.sleep(_RETRY_S)

    def _pass_on(self) -> bool:
        batch = [self._waiting[index] for index in range(len(self._waiting))]
        try:
            self._handle(batch)
        except Exception:
            # Telemetry fan-out: training continues whatever fails in a sink.
            logger.exception("events could not be handled; they are kept and retried")
            return False
        for _ in batch:
            self._waiting.popleft()
        return True
