"""The child process of one run: `python -P -m jobs.child.runner --home H --run ID --device D`.

Loads the run's config, trains, and moves the run to its final state. Exit status: 0 when the run
finished or was stopped, 2 for a user error, 75 when a new process has to continue from the last
checkpoint, 74 when the store could not be used, 73 when the disk is full, 1 for any other error. Of several processes started by torchrun, the first one reports and
sets the state; the others report only their own failure.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from engine.config.loading import load_config
from engine.config.schema import RunConfig
from engine.events import Control, Observer, RunEnded
from engine.start_up import loading
from engine.training.interruption import Interrupted
from engine.training.reference_rule import ReferenceCurve
from jobs.child.control import RunControl, die_with_parent
from jobs.child.needs import checkpoints_needed
from jobs.child.reference import reference_needed
from jobs.home import Home
from jobs.machine.lease import FileLock, LeaseError
from jobs.sinks.lines import LogSink
from jobs.sinks.store import StoreSink
from jobs.sinks.wandb import open_wandb
from jobs.store.errors import StoreUnavailable
from jobs.store.outcomes import NO_ROOM, STORE_BUSY, TRY_AGAIN, end, patiently, requeue
from jobs.store.reader import StoreReader
from jobs.store.writer import StoreWriter

# An earlier process of the same run, orphaned by a killed worker, may still be saving its checkpoint.
_LOCK_WAIT_S = 90.0
# For an outcome to be written to a store that is locked, or whose disk is full for a moment.
_STORE_WAIT_S = 600.0


@dataclass(frozen=True, slots=True)
class Job:
    """A run to train: its config and its folder.

    Attributes:
        fingerprint: of the config as it was queued, maybe by an earlier version of sepdash.
        claim: id of the worker that has claimed the run.
        needs: key of a setting that refers to another run -> the checkpoint it leads to.
        reference: the curve of the run that `stop_when.reference` names; for the first process only.
    """

    home: Home
    run_id: int
    name: str
    fingerprint: str
    config: RunConfig
    claim: int
    needs: Mapping[str, Path] = field(default_factory=dict)
    reference: ReferenceCurve | None = None

    @property
    def folder(self) -> Path:
        """The folder of the run."""
        return self.home.run_folder(self.run_id)


Train = Callable[[Job, Sequence[Observer], Control], RunEnded]


def train_run(job: Job, observers: Sequence[Observer], control: Control) -> RunEnded:
    """Train with the engine; imports torch here, once signal handlers are active."""
    with loading():
        from engine.recipes.base import Opening
        from engine.recipes.registry import open_recipe
        from engine.training.ranks import open_ranks
        from engine.training.trainer import Trainer

    config, folder = job.config, job.folder
    with open_ranks(config.precision) as ranks:
        recipe = open_recipe(config, opening=Opening(folder, job.needs))
        return Trainer(
            config, recipe, folder=folder, observers=observers, control=control, ranks=ranks
        ).fit(init_from=job.needs.get("init_from"), reference=job.reference)


def main(arguments: Sequence[str] | None = None, *, train: Train = train_run) -> int:
    """Train one run and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="jobs.child.runner", description="The child process of one run."
    )
    parser.add_argument("--home", required=True, help="sepdash home folder")
    parser.add_argument("--run", required=True, type=int, help="id of the run")
    parser.add_argument("--device", required=True, help="device of the worker")
    parser.add_argument("--worker", required=True, type=int, help="id of the worker in the store")
    options = parser.parse_args(arguments)
    os.umask(0o077)
    if "LOCAL_RANK" in os.environ:
        die_with_parent()
    control = RunControl()
    control.listen()
    home = Home(Path(options.home))
    if os.environ.get("RANK", "0") != "0":
        return _follow(home, options, train=train, control=control)
    control.show_progress(home.progress_file(options.run))
    lock = FileLock(home.run_folder(options.run) / "run.lock")
    try:
        if not lock.acquire(timeout_s=_LOCK_WAIT_S):
            raise LeaseError(f"process {lock.holder()} is already training run {options.run}")
        return _make(_load(home, options), train, control=control)
    except Exception as error:  # noqa: BLE001 (the child's boundary: logged with its traceback)
        return _fail(home, options, error=error)
    finally:
        lock.release()


def _follow(home: Home, options: argparse.Namespace, *, train: Train, control: RunControl) -> int:
    """Train as a further rank, without reporting."""
    try:
        job = _load(home, options)
        needs = checkpoints_needed(home, job.run_id, note=False)
        train(replace(job, needs=needs), [], control)
    except Exception as error:  # noqa: BLE001 (the child's boundary: logged with its traceback)
        return _fail(home, options, error=error)
    return 0


def _load(home: Home, options: argparse.Namespace) -> Job:
    run_id = options.run
    with StoreReader(home.store) as reader:
        run, config = reader.run(run_id), load_config(reader.config(run_id))
    return Job(home, run_id, run.name, run.fingerprint, config, claim=options.worker)


def _make(job: Job, train: Train, *, control: RunControl) -> int:
    lines = LogSink(sys.stdout)
    lines.say(f"run {job.name} (id {job.run_id}), config {job.fingerprint}, process {os.getpid()}")
    sink = StoreSink(job.home.store, job.run_id, folder=job.folder)
    try:
        wandb = open_wandb(
            job.config, name=job.name, key=f"{job.fingerprint}-{job.run_id}", folder=job.folder
        )
        try:
            needs = checkpoints_needed(job.home, job.run_id, note=True)
            curve = reference_needed(job.home, job.run_id, config=job.config)
            job = replace(job, needs=needs, reference=curve)
            ended = train(job, [lines, sink, wandb], control)
        finally:
            wandb.close()
    finally:
        sink.close()
    patiently(lambda: _set_outcome(job, ended), give_up=_after(_STORE_WAIT_S))
    return 0


def _set_outcome(job: Job, ended: RunEnded) -> None:
    with StoreWriter(job.home.store) as store:
        if ended.outcome == "finished":
            message = ended.reason if ended.early else ""
            end(store, job.run_id, claim=job.claim, to="finished", message=message)
        else:
            requeue(store, job.run_id, claim=job.claim, message=ended.reason, counts=False)


def _after(seconds: float) -> Callable[[], bool]:
    """Return what says whether so much time has passed since now."""
    deadline = time.monotonic() + seconds
    return lambda: time.monotonic() >= deadline


def _fail(home: Home, options: argparse.Namespace, *, error: Exception) -> int:
    """Report an error: in the log, in the run's row, as an event."""
    if isinstance(error, Interrupted | StoreUnavailable):
        LogSink(sys.stderr).say(f"interrupted: {error}")
        return STORE_BUSY if isinstance(error, StoreUnavailable) else TRY_AGAIN
    if is_full(error):
        LogSink(sys.stderr).say(f"interrupted: {error}")
        return NO_ROOM
    mistake = isinstance(error, ValueError)
    message = str(error) if mistake else f"{type(error).__name__}: {error}"
    if not mistake or type(error) is ValueError:
        traceback.print_exception(error)
    LogSink(sys.stderr).say(f"failed: {message}")

    def note() -> None:
        with StoreWriter(home.store) as store, store.transaction():
            if end(store, options.run, claim=options.worker, to="failed", message=message):
                store.add_event(options.run, "error", kind="failed", message=message)

    # Where it can't be noted at all, the worker notes the last line of the log.
    with contextlib.suppress(StoreUnavailable):
        patiently(note, give_up=_after(_STORE_WAIT_S))
    return 2 if mistake else 1


def is_full(error: BaseException | None) -> bool:
    """Return whether an error, or what caused it, says that the disk is full."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__ or error.__context__
    return False


if __name__ == "__main__":
    sys.exit(main())
