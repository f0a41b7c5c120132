"""Finds the runs that a dead worker left behind and puts them back into the queue."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

from jobs.processes import is_alive
from jobs.settle import requeue
from jobs.store.writer import StoreWriter


def recover(store: StoreWriter, *, grace_s: float, echo: Callable[[str], None]) -> int:
    """Requeue each run marked running that no living worker has in hand; return how many.

    A child that outlived its worker is asked to save a checkpoint and end, then killed.
    """
    with store.transaction() as connection:
        rows = connection.execute(
            """
            SELECT runs.id, name, runs.pid, runs.pid_token, workers.pid, workers.pid_token
            FROM runs LEFT JOIN workers ON workers.id = runs.worker WHERE state = 'running'
            """
        ).fetchall()
    count = 0
    for run_id, name, pid, token, worker_pid, worker_token in rows:
        if is_alive(worker_pid, worker_token or ""):
            continue
        if is_alive(pid, token):
            echo(f"run {name} was left behind by a worker that died: ending it")
            _end(pid, token, grace_s)
        message = "its worker died; it will go on from its last checkpoint"
        store.add_event(run_id, "warning", "recovered", message=message)
        requeue(store, run_id, message=message, counts=False)
        echo(f"run {name}: {message}")
        count += 1
    return count


def _end(pid: int, token: str, grace_s: float) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            # The child leads its own group; only the last call is for its data loaders, too.
            (os.killpg if number is signal.SIGKILL else os.kill)(pid, number)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + grace_s
        while is_alive(pid, token) and time.monotonic() < deadline:
            time.sleep(0.05)
        if not is_alive(pid, token):
            return
