"""All actions of the dashboard on runs and workers; each returns the message to show.

Called in thread workers only. `jobs.submit` is imported here on first use: it loads sqlite-utils and
huey, which would delay the first frame.
"""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeVar

from jobs.home import Home
from jobs.store.records import RunRecord, WorkerRecord
from tui.live.messages import ActionEnded

T = TypeVar("T")
Where = Literal["up", "down", "top", "bottom"]


@dataclass(frozen=True, slots=True)
class Failed:
    """What a person is told of work that failed."""

    text: str


def attempt(home: Home, work: Callable[[], T]) -> T | Failed:
    """Do the work of a thread at its boundary: errors become text, so that none ends the dashboard."""
    try:
        return work()
    except (ValueError, OSError) as error:
        return Failed(str(error) or type(error).__name__)
    except Exception as error:  # noqa: BLE001  a bug of ours: the dashboard keeps running, the traceback is saved
        path = home.create().root / "dashboard.log"
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{datetime.now().astimezone():%F %T}\n{traceback.format_exc()}\n")
        return Failed(f"internal error: {error!r}; details in {path}")


def perform(home: Home, action: Callable[[], str]) -> ActionEnded:
    """Do an action at the boundary of a thread; return how it ended, as a message."""
    ended = attempt(home, action)
    return ActionEnded(ended.text, failed=True) if isinstance(ended, Failed) else ActionEnded(ended)


def stop(home: Home, run: RunRecord) -> str:
    """Ask a run to save a checkpoint and end; a queued run leaves the queue."""
    from jobs import submit

    submit.stop(home, run.id)
    return (
        f"stopping {run.name}: it saves a checkpoint first"
        if run.state == "running"
        else (f"stopped {run.name}")
    )


def resume(home: Home, run: RunRecord, *, checkpoint: str = "") -> str:
    """Queue a stopped or failed run again, to go on from its last checkpoint or from an older one."""
    from jobs import submit

    submit.resume(home, run.id, checkpoint=checkpoint)
    return f"queued {run.name}; it continues from {checkpoint or f'update {run.updates}'}"


def remove(home: Home, run: RunRecord) -> str:
    """Remove a run and its files."""
    from jobs import submit

    submit.remove(home, run.id)
    return f"removed {run.name}"


def move(home: Home, run: RunRecord, to: Where) -> str:
    """Move a queued run in the queue."""
    from jobs import submit

    submit.move(home, run.id, to=to)
    return ""


def start_worker(home: Home) -> str:
    """Start a worker that outlives the dashboard; raises what `start_detached` raises."""
    from jobs.worker.detached import start_detached

    return start_detached(home)


def stop_workers(workers: Sequence[WorkerRecord]) -> str:
    """Ask workers to end; their runs save a checkpoint and are queued again."""
    for worker in workers:
        # It may have ended by itself.
        with suppress(ProcessLookupError):
            os.kill(worker.pid, signal.SIGTERM)
    what = "the worker" if len(workers) == 1 else f"{len(workers)} workers"
    return f"stopping {what}: runs in progress are saved and queued again"
