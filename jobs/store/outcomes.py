"""The state of a run after its process has ended without setting it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar

from jobs.store.errors import StoreUnavailable
from jobs.store.records import RunState
from jobs.store.writer import StoreWriter

logger = logging.getLogger(__name__)

_Result = TypeVar("_Result")

# A run fails after this many starts without a new checkpoint.
MAX_ATTEMPTS = 3
# Exit status of a process that could not use the store: what it trained is in its checkpoints and its journal.
STORE_BUSY = 74
# Exit status of a process that could not save, since the disk is full.
NO_ROOM = 73
# Exit status of a process that can't continue, while a new one can, from the last checkpoint.
TRY_AGAIN = 75

_OVER = {"stopping": 0, "worker": None, "pid": None, "pid_token": "", "speed": None}


def end(
    store: StoreWriter, run_id: int, *, claim: int | None, to: RunState, message: str = ""
) -> bool:
    """Move a running run to its final state; return whether it was running under this claim.

    Without its claim, the worker that lost a run could end it while another one trains it.
    """
    fields = {**_OVER, "message": message, "ended_at": time.time()}
    return store.move_claimed(run_id, to, claim=claim, **fields)


def requeue(
    store: StoreWriter, run_id: int, *, claim: int | None, message: str = "", counts: bool = True
) -> RunState | None:
    """Return an interrupted run to its place in the queue, or stop it if that was requested.

    `message` gives the reason. With `counts` false, the start does not count towards the limit of
    starts without a checkpoint.

    Returns:
        The state the run was moved to; None where it is not running under this claim, or was removed.
    """
    with store.transaction() as connection:
        row = connection.execute(
            "SELECT stopping, attempts FROM runs WHERE id = ?", (run_id,)
        ).fetchone()
        if row is None:
            return None
        stopping, attempts = row
        to: RunState = "stopped" if stopping else "queued"
        fields: dict[str, Any] = {**_OVER, "message": message}
        if to == "stopped":
            fields["ended_at"] = time.time()
        elif not counts:
            fields["attempts"] = max(0, attempts - 1)
        moved = store.move_claimed(run_id, to, claim=claim, **fields)
    return to if moved else None


def patiently(
    write: Callable[[], _Result], *, give_up: Callable[[], bool], pause_s: float = 1.0
) -> _Result:
    """Return what `write` returns, as soon as the store can be written: an outcome is not lost to a lock.

    Raises:
        StoreUnavailable: when it still can't be written and `give_up` says so.
    """
    told = False
    while True:
        try:
            return write()
        except StoreUnavailable:
            if give_up():
                raise
            if not told:
                logger.warning("the store can't be written; waiting for it", exc_info=True)
            told = True
            time.sleep(pause_s)


def attempts_of(store: StoreWriter, run_id: int) -> int:
    """Return the number of starts of a run since its last saved checkpoint."""
    rows = store.rows("SELECT attempts FROM runs WHERE id = ?", (run_id,))
    return int(rows[0][0]) if rows else 0
