"""The state of a run after its process has ended without setting it."""

from __future__ import annotations

import time
from typing import Any

from jobs.store.records import RunState
from jobs.store.writer import StoreWriter

# A run fails after this many starts without a new checkpoint.
MAX_ATTEMPTS = 3
# Exit status of a process that can't continue, while a new one can, from the last checkpoint.
TRY_AGAIN = 75

_OVER = {"stopping": 0, "worker": None, "pid": None, "pid_token": "", "speed": None}


def end(store: StoreWriter, run_id: int, *, to: RunState, message: str = "") -> bool:
    """Move a running run to its final state; return whether it was running."""
    fields = {**_OVER, "message": message, "ended_at": time.time()}
    return store.move(run_id, to, ("running",), **fields)


def requeue(store: StoreWriter, run_id: int, *, message: str = "", counts: bool = True) -> RunState:
    """Return an interrupted run to its place in the queue, or stop it if that was requested.

    `message` gives the reason. With `counts` false, the start does not count towards the limit of
    starts without a checkpoint.

    Returns:
        The state the run was moved to.
    """
    with store.transaction() as connection:
        row = connection.execute(
            "SELECT stopping, attempts FROM runs WHERE id = ?", (run_id,)
        ).fetchone()
        stopping, attempts = row if row is not None else (0, 0)
        to: RunState = "stopped" if stopping else "queued"
        fields: dict[str, Any] = {**_OVER, "message": message}
        if to == "stopped":
            fields["ended_at"] = time.time()
        elif not counts:
            fields["attempts"] = max(0, attempts - 1)
        store.move(run_id, to, ("running",), **fields)
    return to


def attempts_of(store: StoreWriter, run_id: int) -> int:
    """Return the number of starts of a run since its last saved checkpoint."""
    rows = store.rows("SELECT attempts FROM runs WHERE id = ?", (run_id,))
    return int(rows[0][0]) if rows else 0
