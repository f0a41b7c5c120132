"""The queue of tickets: a message means that a run is waiting, the store determines which one is next.

Huey deletes a message before its task runs, and pickles by default. So a ticket contains only a run
id, as JSON. The state of a run is in the store, and a lost ticket loses nothing: `top_up` adds tickets
until there is one for each queued run.
"""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Callable
from pathlib import Path

from huey.api import SqliteHuey
from huey.registry import Message
from huey.serializer import Serializer

from jobs.store.errors import StoreError
from models.private_files import ensure_private

_TASK = "ticket"


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
            self.huey = SqliteHuey(
                "sepdash", filename=str(path), results=False, serializer=serializer
            )
        except sqlite3.DatabaseError as error:
            raise StoreError(
                f"{path}: can't be used as the queue ({error}); delete this file, no run is lost"
            ) from None
        self._ticket = self.huey.task(name=_TASK)(on_ticket or _ignore)
        serializer.task_name = f"{self._ticket.task_class.__module__}.{_TASK}"

    def push(self, run_id: int) -> None:
        """Add a ticket."""
        try:
            self._ticket(run_id)
        except sqlite3.DatabaseError as error:
            raise StoreError(f"{self._path}: can't be written: {error}") from error

    def size(self) -> int:
        """Count the tickets."""
        return int(self.huey.storage.queue_size())

    def top_up(self, queued: list[int]) -> None:
        """Add tickets until each queued run has one."""
        for run_id in queued[: max(0, len(queued) - self.size())]:
            self.push(run_id)

    def close(self) -> None:
        """Close the file."""
        self.huey.storage.close()


def _ignore(run_id: int) -> None:
    """Replace the worker where tickets are only added."""
