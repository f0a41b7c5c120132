"""Starts a run's child process, watches it, and sets the state of the run when it has ended.

Torchrun starts a run on several devices, one process for each; torchrun is then the child. It would
allow them only half a minute after a signal, so a message through the pipe asks them to stop.

The child has its own process group. Its standard input is a pipe: when the worker dies in any way the
pipe closes, and the child saves a checkpoint and exits.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

from engine.config.sections import MOST_DEVICES
from jobs.child.command import RUNNER
from jobs.home import Home
from jobs.machine.devices import (
    TORCHRUN,
    DeviceError,
    DevicesBusy,
    child_environment,
    devices_taken,
    ranks_environment,
)
from jobs.machine.processes import process_token
from jobs.store.errors import StoreError, UnknownRun
from jobs.store.outcomes import (
    MAX_ATTEMPTS,
    NO_ROOM,
    STORE_BUSY,
    TRY_AGAIN,
    attempts_of,
    end,
    patiently,
    requeue,
)
from jobs.store.reader import StoreReader
from jobs.store.records import RunRecord, RunState
from jobs.store.writer import StoreWriter
from jobs.worker.system_sampler import SystemProbe, SystemSampler

logger = logging.getLogger(__name__)

_Result = TypeVar("_Result")

# Time for a child to save a checkpoint when it is asked to stop.
GRACE_S = 60.0
# A child that neither trains nor evaluates for this long is stuck: in a reader, a collective, a save. What comes
# before the first update, such as reading the headers of a large data set, is no progress either.
STALL_S = 1800.0
_POLL_S = 0.2
# Torchrun's message about a killed process.
# What torchrun says below the last words of a process that failed: a traceback, and a table without a reason.
_REPORT = re.compile(
    r"^[^\n]*torch/distributed/elastic/\S+\] failed .*?^Root Cause .*?^=+$",
    re.MULTILINE | re.DOTALL,
)
_LAUNCHER = re.compile(r"^[^\n]*torch/distributed/elastic/\S+:\d+\] .*$", re.MULTILINE)
_TAIL_BYTES = 16_384
_SIGNAL = re.compile(r"Signal \d+ \((SIG\w+)\) received")


@dataclass(frozen=True, slots=True)
class Child:
    """The command of children, and the timeouts of their supervisor."""

    command: Sequence[str] = RUNNER
    grace_s: float = GRACE_S
    stall_s: float = STALL_S


class NoRoom(RuntimeError):
    """A run could not be saved, since the disk is full; it is queued again."""


class Supervisor:
    """Runs one child at a time on `device`; `shutdown` stops it and requeues its run."""

    def __init__(self, home: Home, device: str, *, shutdown: threading.Event, child: Child) -> None:
        self._home = home
        self._device = device
        self._shutdown = shutdown
        self._child = child
        self._stalled = False

    def run(self, store: StoreWriter, run_id: int, *, claim: int) -> RunState:
        """Train a run that the worker `claim` has claimed; return its final state.

        Raises:
            StoreUnavailable: when the store can't be written and the worker has to end.
            NoRoom: when it could not be saved; it is queued again.
            DevicesBusy: when others use the devices it needs; it is queued again.
        """
        folder = self._home.run_folder(run_id)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with StoreReader(self._home.store) as reader:
            config = reader.config(run_id)
        try:
            count = _num_processes(config)
            with devices_taken(self._device, count, locks=self._home.locks) as devices:
                return self._run(store, run_id, claim=claim, devices=devices, count=count)
        except DevicesBusy as error:
            self._requeue(store, run_id, claim=claim, message=f"waiting: {error}", counts=False)
            raise
        except DeviceError as error:
            self._fail(store, run_id, claim=claim, kind="no-device", message=str(error))
            return "failed"

    def _patiently(self, write: Callable[[], _Result]) -> _Result:
        return patiently(write, give_up=self._shutdown.is_set)

    def _fail(
        self, store: StoreWriter, run_id: int, *, claim: int, kind: str, message: str
    ) -> None:
        def write() -> None:
            with store.transaction():
                if end(store, run_id, claim=claim, to="failed", message=message):
                    store.add_event(run_id, "error", kind=kind, message=message)

        self._patiently(write)

    def _run(
        self,
        store: StoreWriter,
        run_id: int,
        *,
        claim: int,
        devices: Sequence[str],
        count: int,
    ) -> RunState:
        process = self._start(run_id, devices, claim=claim, count=count)
        identity = {"pid": process.pid, "pid_token": process_token(process.pid)}
        try:
            self._patiently(lambda: store.update_run(run_id, **identity))
            with StoreReader(self._home.store) as reader:
                every_s = float(reader.config(run_id)["logging"]["system_every_s"])
                probe = SystemProbe(self._device, run_id=run_id, pid=process.pid)
                with SystemSampler(self._home.store, probe, every_s=every_s):
                    asked = self._watch(process, reader, run_id=run_id, several=count > 1)
        finally:
            _end_group(process)
        code = process.returncode
        if count > 1 and code == 1:
            # Torchrun returns 1 for every failure; a rank that failed by an error has set the state itself.
            code = TRY_AGAIN
        return self._settle(store, run_id, claim=claim, code=code, asked=asked)

    def _start(
        self, run_id: int, devices: Sequence[str], *, claim: int, count: int
    ) -> subprocess.Popen[bytes]:
        folder = self._home.run_folder(run_id)
        log = os.open(folder / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        command = [
            *self._child.command,
            *("--home", str(self._home.root), "--run", str(run_id), "--device", devices[0]),
            *("--worker", str(claim)),
        ]
        environment = child_environment(*devices)
        if count > 1:
            command = [*TORCHRUN, f"--nproc-per-node={count}", "--no-python", "--", *command]
            environment = ranks_environment(devices, count)
        try:
            return subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=folder,
                env=environment,
                start_new_session=True,
            )
        finally:
            os.close(log)

    def _watch(
        self, process: subprocess.Popen[bytes], reader: StoreReader, *, run_id: int, several: bool
    ) -> bool:
        """Wait until the child ends; return whether it was asked to stop."""
        life = Life(self._home.progress_file(run_id), stall_s=self._child.stall_s)
        self._stalled = False
        deadline = None
        while not _has_ended(process):
            run = _look(reader, run_id)
            stopping = run is not None and run.stopping
            if deadline is None and (self._shutdown.is_set() or stopping):
                _ask_to_stop(process, several=several)
                deadline = time.monotonic() + self._child.grace_s
            if deadline is not None and time.monotonic() >= deadline:
                logger.warning(
                    "run %s did not stop within %s s: killed", run_id, self._child.grace_s
                )
                os.killpg(process.pid, signal.SIGKILL)
            elif life.is_over():
                logger.warning("run %s made no progress for %s s: killed", run_id, life.stall_s)
                self._stalled = True
                os.killpg(process.pid, signal.SIGKILL)
            _wait_for_end(process, _POLL_S)
        return deadline is not None

    def _settle(
        self, store: StoreWriter, run_id: int, *, claim: int, code: int, asked: bool
    ) -> RunState:
        rows = store.rows("SELECT state, worker FROM runs WHERE id = ?", (run_id,))
        state, worker = rows[0] if rows else ("stopped", None)
        if state != "running":
            return cast("RunState", state)
        if worker != claim:
            # Its process queued it again, and another worker is already at it.
            return "queued"
        log = self._home.run_folder(run_id) / "log.txt"
        last = last_line(log)
        if code >= 0 and code not in (TRY_AGAIN, STORE_BUSY, NO_ROOM):
            message = f"its process exited with status {code}: {last}"
            self._fail(store, run_id, claim=claim, kind="ended", message=message)
            return "failed"
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else _accident(log)
        if self._stalled:
            how = f"made no progress for {self._child.stall_s:.0f} s and was killed"
        again = partial(self._requeue, store, run_id, claim=claim)
        if code == NO_ROOM and not asked:
            again(message=f"waiting for room on the disk: {last}", counts=False)
            raise NoRoom(last)
        if asked or code == STORE_BUSY:
            return again(message=f"interrupted: its process {how}", counts=False)
        if attempts_of(store, run_id) >= MAX_ATTEMPTS:
            message = (
                f"its process {how}, after {MAX_ATTEMPTS} starts without a new checkpoint; "
                "it may have run out of memory (see its log); retry with `sepdash resume`"
            )
            self._fail(store, run_id, claim=claim, kind="killed", message=message)
            return "failed"
        message = f"its process {how}; it will resume from its last checkpoint"
        return again(message=message, kind="killed")

    def _requeue(
        self,
        store: StoreWriter,
        run_id: int,
        *,
        claim: int,
        message: str,
        counts: bool = True,
        kind: str = "",
    ) -> RunState:
        """Requeue a run, with a warning of `kind` where one is given."""

        def write() -> RunState:
            with store.transaction():
                state = requeue(store, run_id, claim=claim, message=message, counts=counts)
                if kind and state is not None:
                    store.add_event(run_id, "warning", kind=kind, message=message)
            return state or "queued"

        return self._patiently(write)


class Life:
    """Watches the time of the file of a run's progress, on this process's clock: a suspended machine raises no alarm."""

    def __init__(self, path: Path, *, stall_s: float) -> None:
        self.stall_s = stall_s
        self._path = path
        self._time: int | None = None
        self._seen = time.monotonic()

    def is_over(self) -> bool:
        """Return whether there was no progress for too long."""
        try:
            now = self._path.stat().st_mtime_ns
        except OSError:
            now = None
        if now != self._time:
            self._time, self._seen = now, time.monotonic()
        return time.monotonic() - self._seen > self.stall_s


def _look(reader: StoreReader, run_id: int) -> RunRecord | None:
    """Return the run's row; None while the store can't be read, which is no reason to stop a run."""
    try:
        return reader.run(run_id)
    except UnknownRun:
        raise
    except StoreError:
        logger.exception("the store can't be read; the run continues")
        return None


def _num_processes(config: Any) -> int:
    """Return on how many devices a run trains.

    Raises:
        DeviceError: for a number that no setting allows: a store may have been written by others.
    """
    precision = config.get("precision", {}) if isinstance(config, dict) else {}
    count = precision.get("devices", 1) if isinstance(precision, dict) else None
    if type(count) is not int or not 1 <= count <= MOST_DEVICES:
        raise DeviceError(
            f"precision.devices = {count!r:.40} in the store, expected 1 to {MOST_DEVICES}; remove the run and "
            "queue it again"
        )
    return count


def last_line(log: Path) -> str:
    """Return the last line of a log that is not empty, at most 300 characters of it; torchrun's words don't count."""
    lines = _LAUNCHER.sub("", _REPORT.sub("", _tail(log))).split("\n")
    return next((line.strip()[:300] for line in reversed(lines) if line.strip("=- \n")), "")


def _tail(log: Path) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def _ask_to_stop(process: subprocess.Popen[bytes], *, several: bool) -> None:
    """Ask the child, or the processes started by torchrun, to save a checkpoint and exit."""
    if not several:
        process.send_signal(signal.SIGTERM)
        return
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(b"stop\n")
        process.stdin.flush()


def _accident(log: Path) -> str:
    """Return why a child can't continue: the signal named by torchrun, or its last log line."""
    named = _SIGNAL.findall(_tail(log).rpartition("Root Cause")[2])
    if named:
        return f"was killed by {named[-1]}"
    return f"can't continue: {last_line(log)}"


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Return whether the child has ended; it stays a zombie, so its group id can't be reused."""
    options = os.WEXITED | os.WNOWAIT | os.WNOHANG
    return os.waitid(os.P_PID, process.pid, options) is not None


def _wait_for_end(process: subprocess.Popen[bytes], timeout_s: float) -> None:
    """Wait until the child has ended, or for a time; where the system can't tell, for the time."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            handle = os.pidfd_open(process.pid)
            try:
                ended = select.poll()
                ended.register(handle, select.POLLIN)
                ended.poll(1000 * timeout_s)
                return
            finally:
                os.close(handle)
    time.sleep(timeout_s)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Kill the rest of the child's group (its data loaders), then collect its exit status."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdin is not None:
        process.stdin.close()
