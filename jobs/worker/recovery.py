"""Requeues the runs of workers that died."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

from jobs.machine.processes import is_alive
from jobs.store.outcomes import requeue
from jobs.store.writer import StoreWriter

_RUNNING = """
    SELECT runs.id, name, runs.pid, runs.pid_token, runs.worker, workers.id, workers.pid, workers.pid_token
    FROM runs LEFT JOIN workers ON workers.id = runs.worker WHERE state = 'running'
"""


def recover(
    store: StoreWriter, *, worker: int, grace_s: float, echo: Callable[[str], None]
) -> None:
    """Requeue each run marked running that no other living worker is processing.

    Called by `worker` while it is idle. A child that outlived its worker is asked to save a checkpoint
    and exit, then killed.
    """
    for run_id, name, pid, token, claim, owner, owner_pid, owner_token in store.rows(_RUNNING):
        if owner != worker and is_alive(owner_pid, owner_token or ""):
            continue
        if is_alive(pid, token):
            echo(f"run {name} is still running, but its worker died: stopping it")
            _end(pid, token, grace_s=grace_s)
        message = "its worker died; it will resume from its last checkpoint"
        with store.transaction():
            # Another worker may have recovered it, or a person removed it, since it was listed.
            taken = requeue(store, run_id, claim=claim, message=message, counts=False) is not None
            if taken:
                store.add_event(run_id, "warning", kind="recovered", message=message)
        if taken:
            echo(f"run {name}: {message}")


def _end(pid: int, token: str, *, grace_s: float) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            # The child leads its own process group. SIGTERM goes to the child only, so that it can save;
            # SIGKILL goes to the whole group, which includes its data loaders.
            (os.killpg if number is signal.SIGKILL else os.kill)(pid, number)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + grace_s
        while is_alive(pid, token) and time.monotonic() < deadline:
            time.sleep(0.05)
        if not is_alive(pid, token):
            return
