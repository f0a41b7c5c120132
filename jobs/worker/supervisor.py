"""Starts a run's child process, watches it, and settles where the run goes when it has ended.

A run that asks for several devices is started by torchrun, one process for each; torchrun is then the
child. It would give them half a minute after a signal, so they are asked to stop through the pipe.

The child is a process group of its own. Its standard input is a pipe that nobody writes to: when the
worker dies in any way the pipe closes, and the child saves a checkpoint and ends by itself.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jobs.home import Home
from jobs.machine.devices import DeviceError, child_environment, devices_taken, ranks_environment
from jobs.machine.processes import process_token
from jobs.store.errors import StoreError, UnknownRun
from jobs.store.outcomes import MAX_ATTEMPTS, TRY_AGAIN, attempts_of, end, requeue
from jobs.store.reader import StoreReader
from jobs.store.records import RunRecord, RunState
from jobs.store.writer import StoreWriter
from jobs.worker.system_sampler import SystemProbe, SystemSampler

logger = logging.getLogger(__name__)

RUNNER = (sys.executable, "-P", "-m", "jobs.child.runner")
# Without --no-python torchrun would put the run's folder on the path of modules.
TORCHRUN = (
    sys.executable, "-P", "-m", "torch.distributed.run", "--standalone", "--max-restarts=0",
    "--local-addr=127.0.0.1",
)  # fmt: skip
# Time a child has to save a checkpoint when it is asked to end.
GRACE_S = 60.0
# A child that shows no life for this long is hung: its heartbeat comes from a thread of its own.
SILENCE_S = 300.0
_POLL_S = 0.2
# How torchrun says that a process was killed.
_SIGNAL = re.compile(r"Signal \d+ \((SIG\w+)\) received")


@dataclass(frozen=True, slots=True)
class Child:
    """How children are started, and how patient their supervisor is."""

    command: Sequence[str] = RUNNER
    grace_s: float = GRACE_S
    silence_s: float = SILENCE_S


class Supervisor:
    """Runs one child at a time on `device`; `shutdown` asks it to end and puts its run back."""

    def __init__(self, home: Home, device: str, *, shutdown: threading.Event, child: Child) -> None:
        self._home = home
        self._device = device
        self._shutdown = shutdown
        self._child = child

    def run(self, store: StoreWriter, run_id: int) -> RunState:
        """Make a claimed run; return the state it was left in."""
        folder = self._home.run_folder(run_id)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with StoreReader(self._home.store) as reader:
            config = reader.config(run_id)
        count = int(config["precision"].get("devices", 1))
        try:
            with devices_taken(self._device, count, locks=self._home.locks) as devices:
                return self._run(store, run_id, devices, count)
        except DeviceError as error:
            store.add_event(run_id, "error", "no-device", message=str(error))
            end(store, run_id, "failed", message=str(error))
            return "failed"

    def _run(self, store: StoreWriter, run_id: int, devices: Sequence[str], count: int) -> RunState:
        process = self._start(run_id, devices, count)
        try:
            store.update_run(run_id, pid=process.pid, pid_token=process_token(process.pid))
            with StoreReader(self._home.store) as reader:
                every_s = float(reader.config(run_id)["logging"]["system_every_s"])
                probe = SystemProbe(self._device, run_id=run_id, pid=process.pid)
                with SystemSampler(self._home.store, probe, every_s=every_s):
                    asked = self._watch(process, reader, run_id, several=count > 1)
        finally:
            _end_group(process)
        code = process.returncode
        if count > 1 and code == 1:
            # torchrun says so whatever happened; a rank that met an error has said so in the store.
            code = TRY_AGAIN
        return self._settle(store, run_id, code, asked=asked)

    def _start(self, run_id: int, devices: Sequence[str], count: int) -> subprocess.Popen[bytes]:
        folder = self._home.run_folder(run_id)
        log = os.open(folder / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        command = [
            *self._child.command,
            *("--home", str(self._home.root), "--run", str(run_id), "--device", devices[0]),
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
        self, process: subprocess.Popen[bytes], reader: StoreReader, run_id: int, *, several: bool
    ) -> bool:
        """Wait for the child's end; return whether it was asked to."""
        life = Life(self._child.silence_s)
        deadline = None
        while not _has_ended(process):
            run = _look(reader, run_id)
            stopping = run is not None and run.stopping
            if deadline is None and (self._shutdown.is_set() or stopping):
                _ask_to_stop(process, several=several)
                deadline = time.monotonic() + self._child.grace_s
            if deadline is not None and time.monotonic() >= deadline:
                logger.warning("run %s did not end in %s s: killed", run_id, self._child.grace_s)
                os.killpg(process.pid, signal.SIGKILL)
            elif run is not None and life.is_over(run):
                logger.warning(
                    "run %s showed no life for %s s: killed", run_id, self._child.silence_s
                )
                os.killpg(process.pid, signal.SIGKILL)
            time.sleep(_POLL_S)
        return deadline is not None

    def _settle(self, store: StoreWriter, run_id: int, code: int, *, asked: bool) -> RunState:
        with StoreReader(self._home.store) as reader:
            state = reader.run(run_id).state
        if state != "running":
            return state
        log = self._home.run_folder(run_id) / "log.txt"
        last = last_line(log)
        if code >= 0 and code != TRY_AGAIN:
            message = f"its process ended with status {code}: {last}"
            store.add_event(run_id, "error", "ended", message=message)
            end(store, run_id, "failed", message=message)
            return "failed"
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else _accident(log)
        if asked:
            return requeue(store, run_id, message=f"interrupted: its process {how}", counts=False)
        if attempts_of(store, run_id) >= MAX_ATTEMPTS:
            message = (
                f"its process {how}, after {MAX_ATTEMPTS} starts without a checkpoint "
                "between them; memory may have run out (see its log); `sepdash resume` tries again"
            )
            store.add_event(run_id, "error", "killed", message=message)
            end(store, run_id, "failed", message=message)
            return "failed"
        message = f"its process {how}; it will go on from its last checkpoint"
        store.add_event(run_id, "warning", "killed", message=message)
        return requeue(store, run_id, message=message)


class Life:
    """Watches a heartbeat on this process's own clock, so that a sleeping machine frightens nobody."""

    def __init__(self, silence_s: float) -> None:
        self._silence_s = silence_s
        self._beat: float | None = None
        self._seen = time.monotonic()

    def is_over(self, run: RunRecord) -> bool:
        """Tell whether the heartbeat has not moved for too long."""
        if run.heartbeat_at != self._beat:
            self._beat, self._seen = run.heartbeat_at, time.monotonic()
        return time.monotonic() - self._seen > self._silence_s


def _look(reader: StoreReader, run_id: int) -> RunRecord | None:
    """Return the run's row; None while the store can't be read: no reason to end a run."""
    try:
        return reader.run(run_id)
    except UnknownRun:
        raise
    except StoreError:
        logger.exception("the store can't be read; the run goes on")
        return None


def last_line(log: Path) -> str:
    """Return the last line of a log that is not empty, at most 300 characters of it."""
    lines = _tail(log).split("\n")
    return next((line.strip()[:300] for line in reversed(lines) if line.strip("=- \n")), "")


def _tail(log: Path) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def _ask_to_stop(process: subprocess.Popen[bytes], *, several: bool) -> None:
    """Ask the child, or the processes that torchrun started, to save a checkpoint and end."""
    if not several:
        process.send_signal(signal.SIGTERM)
        return
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(b"stop\n")
        process.stdin.flush()


def _accident(log: Path) -> str:
    """Say what ended a child that can't go on: the signal that torchrun names, or its last words."""
    named = _SIGNAL.findall(_tail(log).rpartition("Root Cause")[2])
    if named:
        return f"was ended by {named[-1]}"
    return f"can't go on: {last_line(log)}"


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Tell whether the child has ended, leaving it a zombie: its group id stays its own."""
    options = os.WEXITED | os.WNOWAIT | os.WNOHANG
    return os.waitid(os.P_PID, process.pid, options) is not None


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of the child's group (its data loaders), then take its exit status."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdin is not None:
        process.stdin.close()
