"""The queue of tickets: a message means that a run is waiting, the store determines which one is next.

Huey deletes a message before its task runs, and pickles by default. So a ticket contains only a run
id, as JSON. The state of a run is in the store, and a lost ticket loses nothing: `top_up` adds tickets
until there is one for each queued run.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from huey.api import SqliteHuey
from huey.registry import Message
from huey.serializer import Serializer

from jobs.store.errors import StoreError, failed
from models.folders import unused
from models.private_files import ensure_private

logger = logging.getLogger(__name__)

_TASK = "ticket"
_CREATION_S = 30.0


class QueueDamaged(StoreError):
    """The queue file is no database any more; it is to be put aside and made anew."""


class TicketSerializer(Serializer):  # type: ignore[misc]
    """Converts a ticket to JSON and back; any other message is refused, never executed."""

    task_name = ""

    def _serialize(self, data: Message) -> bytes:
        (run_id,) = data.args
        return json.dumps({"run": run_id}).encode()

    def _deserialize(self, data: bytes) -> Message:
        try:
            fields = json.loads(bytes(data))
        except ValueError:
            fields = None
        run_id = fields.get("run") if isinstance(fields, dict) else None
        if not isinstance(run_id, int):
            raise StoreError(
                "the queue contained a message that is not a ticket; the message was dropped"
            )
        return Message(
            uuid.uuid4().hex, self.task_name, retries=0, retry_delay=0, args=(run_id,), kwargs={}
        )


class RunQueue:
    """The queue file at `path`; `on_ticket` is called by the consumer's thread for each ticket."""

    def __init__(self, path: Path, on_ticket: Callable[[int], None] | None = None) -> None:
        ensure_private(path)
        self._path = path
        serializer = TicketSerializer()
        try:
            with _worded(path):
                self.huey = _open(path, serializer)
        except QueueDamaged:
            put_aside(path)
            ensure_private(path)
            with _worded(path):
                self.huey = _open(path, serializer)
        self._ticket = self.huey.task(name=_TASK)(on_ticket or _ignore)
        serializer.task_name = f"{self._ticket.task_class.__module__}.{_TASK}"

    def push(self, run_id: int) -> None:
        """Add a ticket."""
        with _worded(self._path):
            self._ticket(run_id)

    def size(self) -> int:
        """Count the tickets."""
        with _worded(self._path):
            return int(self.huey.storage.queue_size())

    def top_up(self, queued: list[int]) -> None:
        """Add tickets until each queued run has one."""
        for run_id in queued[: max(0, len(queued) - self.size())]:
            self.push(run_id)

    def close(self) -> None:
        """Close the file."""
        self.huey.storage.close()


def _open(path: Path, serializer: TicketSerializer) -> SqliteHuey:
    """Open the queue, again while other processes create it: SQLite refuses that without waiting."""
    deadline = time.monotonic() + _CREATION_S
    while True:
        try:
            return SqliteHuey("sepdash", filename=str(path), results=False, serializer=serializer)
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() >= deadline:
                raise
            time.sleep(0.05)


@contextmanager
def _worded(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            raise QueueDamaged(f"{path}: is not the queue any more: {error}") from error
        raise failed(path, error, doing="written") from error
    except sqlite3.DatabaseError as error:
        raise QueueDamaged(f"{path}: is damaged: {error}") from error


def put_aside(path: Path) -> None:
    """Rename a damaged queue file to `<name>.broken`, with a number where there is one; no run is lost by it."""
    with contextlib.suppress(FileNotFoundError):
        aside = unused(path.with_name(f"{path.name}.broken"))
        path.rename(aside)
        logger.warning(
            "%s was damaged and is now %s; a new queue was made, no run is lost", path, aside.name
        )
    for end in ("-wal", "-shm", "-journal"):
        path.with_name(path.name + end).unlink(missing_ok=True)


def _ignore(run_id: int) -> None:
    """Replace the worker where tickets are only added."""
