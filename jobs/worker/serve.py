"""The worker: locks a device and trains queued runs one at a time, each in a child process.

Huey's consumer has one thread in this process; the worker handles signals itself. When a worker is
killed, the next one recovers its run (`jobs.worker.recovery`).
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from jobs.home import Home
from jobs.machine.devices import DevicesBusy, resolve_device
from jobs.machine.lease import DeviceLease, DeviceUse, LeaseError
from jobs.machine.processes import own_token
from jobs.probing.serving import due
from jobs.probing.serving import serve as probe_experiment
from jobs.searches.serving import Searches
from jobs.store.errors import StoreError, StoreUnavailable
from jobs.store.needs import in_vain
from jobs.store.outcomes import end
from jobs.store.reader import StoreReader
from jobs.store.writer import StoreWriter
from jobs.worker.recovery import recover
from jobs.worker.room import Room
from jobs.worker.supervisor import Child, NoRoom, Supervisor
from jobs.worker.tickets import Tickets

logger = logging.getLogger(__name__)

_LOOP_S = 0.25
# While something is trained a turn costs nothing, and a search waits for the end with its next run.
_BUSY_LOOP_S = 0.05
_BEAT_S = 2.0
# A run whose devices are in use is tried again after this.
_REST_S = 30.0
_KEEP_SYSTEM_S = 14 * 24 * 3600.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def serve(
    home: Home,
    *,
    device: str = "auto",
    drain: bool = False,
    echo: Callable[[str], None] = print,
    stop: threading.Event | None = None,
    child: Child | None = None,
) -> int:
    """Train queued runs until a signal arrives, or with `drain` until none of them can start any more.

    Args:
        home: where the store and the queue are.
        device: `auto`, `cpu` or `cuda:0`; one worker per device.
        drain: return when the queue is empty, or every run in it waits for a run that has
            failed or was stopped or removed; `echo` reports which run waits for which.
        echo: receives one line for each event.
        stop: set to stop the worker, as SIGTERM and SIGINT do.
        child: command and timeouts of children.

    Returns:
        The number of runs that failed, or cannot start because a run they need did not finish.

    Raises:
        LeaseError: when another worker uses the device.
        DeviceError: when there is no such device.
        StoreError: when the store can't be used.
    """
    home.create()
    name = resolve_device(device)
    stop = stop or threading.Event()
    with DeviceLease(home.locks, name), _signals_set(stop):
        worker = Worker(home, name, echo=echo, stop=stop, child=child or Child())
        return worker.work(drain=drain)


class Worker:
    """One worker on one device; `work` runs it."""

    def __init__(
        self,
        home: Home,
        device: str,
        *,
        echo: Callable[[str], None],
        stop: threading.Event,
        child: Child,
    ) -> None:
        self._home = home
        self._device = device
        self._echo = harmless(echo)
        self._stop = stop
        self._child = child
        self._supervisor = Supervisor(home, device, shutdown=stop, child=child)
        self._searches = Searches(home, echo=self._echo)
        self._id = 0
        # Held by the consumer's thread while it handles a ticket, and by that of a probe.
        self._busy = threading.Lock()
        self._probing: threading.Thread | None = None
        self._run: int | None = None
        # The run that the row of this worker names; both threads write it, so that none writes an old one.
        self._noted: int | None = None
        self._noting = threading.Lock()
        # The last reason why the device could not be used; reported once.
        self._waits_for = ""
        self._room = Room(home.root)
        self._rests: dict[int, float] = {}
        self._num_failed = 0
        self._num_left = 0

    def work(self, *, drain: bool) -> int:
        """Recover orphaned runs, train runs until it must stop.

        Returns:
            The number of runs that failed, or cannot start because a run they need did not finish.
        """
        tickets = Tickets(self._home.queue, self._on_ticket)
        with StoreWriter(self._home.store) as store:
            self._id = store.add_worker(self._device, pid=os.getpid(), token=own_token())
            try:
                self._begin(store, tickets)
                tickets.start()
                self._loop(store, tickets, drain=drain)
            finally:
                self._stop.set()
                tickets.end()
                if self._probing is not None:
                    self._probing.join()
                # The row of a process that is gone names nobody.
                with suppress(StoreUnavailable):
                    store.remove_worker(self._id)
                self._searches.close()
        self._echo("worker stopped")
        return self._num_failed + self._num_left

    def _begin(self, store: StoreWriter, tickets: Tickets) -> None:
        store.forget_system(time.time() - _KEEP_SYSTEM_S)
        self._recover(store)
        text = f"worker {os.getpid()} started on {self._device}"
        if self._device == "cpu":
            text += " (CPU only)"
        store.add_event(None, "info", kind="worker-started", message=text)
        self._echo(text)
        tickets.top_up(self._ready())

    def _loop(self, store: StoreWriter, tickets: Tickets, *, drain: bool) -> None:
        next_beat, told = 0.0, False
        while not self._stop.wait(_BUSY_LOOP_S if self._busy.locked() else _LOOP_S):
            beat = time.monotonic() >= next_beat
            if beat:
                next_beat = time.monotonic() + _BEAT_S
            try:
                settled = self._tend(store, tickets, beat=beat)
                told = False
                if settled and drain and self._is_drained():
                    return
                if tickets.mend():
                    self._echo("the queue file was damaged: a new one was made, no run is lost")
            except (StoreError, OSError):
                if not told:
                    logger.exception("the store can't be used at the moment; the worker continues")
                told = True
        self._echo("stopping: the current run saves a checkpoint first")

    def _tend(self, store: StoreWriter, tickets: Tickets, *, beat: bool) -> bool:
        """Add missing tickets; return whether no queued run can start.

        On a beat, requeue orphaned runs, and repeat what could not be written.
        """
        with self._if_idle() as idle:
            ready, settled = self._ready() if idle else [], True
            # With nothing to train, a search proposes the next run.
            if beat or (idle and not ready):
                settled = self._searches.tend(propose=idle and not ready)
                if idle and not settled:
                    # It may have queued one.
                    ready = self._ready()
            if ready:
                tickets.top_up(ready)
            if idle and beat:
                self._recover(store)
            if beat:
                self._note_run(store)
            # Before a run its ticket serves them; here are those after which nothing can be trained.
            probes = bool(due(self._home)) if idle and settled and not ready else False
        if probes:
            self._start_probes()
        return idle and settled and not ready and not probes

    def _start_probes(self) -> None:
        """Probe experiments in a thread, unless one is at it; nothing is trained meanwhile."""
        if self._probing is None or not self._probing.is_alive():
            self._probing = threading.Thread(target=self._probe, daemon=True)
            self._probing.start()

    def _probe(self) -> None:
        with self._busy:
            try:
                with DeviceUse(self._home.locks, self._device, purpose="a worker") as use:
                    self._serve_probes(use)
            except LeaseError as error:
                self._wait_for(error)

    def _serve_probes(self, use: DeviceUse) -> None:
        """Probe every experiment whose runs have all ended."""
        try:
            for request in due(self._home):
                if self._stop.is_set():
                    return
                use.describe(f"a worker that is probing the runs of {request.experiment}")
                probe_experiment(
                    self._home, request, device=self._device, echo=self._echo, cancel=self._stop
                )
        except (StoreError, OSError):
            logger.exception("a probe can't be kept at the moment; it is repeated")

    def _is_drained(self) -> bool:
        """Return whether no queued run can ever start; print what the remaining runs wait for.

        Decided while no run is in hand, and none is taken afterwards: what was queued since then stays so.
        """
        with self._if_idle() as idle:
            drained = idle and self._nothing_starts()
            if drained:
                self._stop.set()
        return drained

    def _nothing_starts(self) -> bool:
        with StoreReader(self._home.store) as reader:
            waits = reader.waits()
            queued = [run for run in reader.runs() if run.state == "queued"]
        lost = in_vain(waits)
        if any(run.id not in lost for run in queued):
            return False
        self._num_left = len(queued)
        for run in queued:
            self._echo(f"run {run.name} (id {run.id}) is left {run.waiting}")
        return True

    def _recover(self, store: StoreWriter) -> None:
        recover(store, worker=self._id, grace_s=self._child.grace_s, echo=self._echo)

    def _note_run(self, store: StoreWriter) -> None:
        """Store the current run of this worker, if it has changed: the dashboard re-reads at each write."""
        with self._noting:
            run = self._run
            if run != self._noted:
                store.note_current(self._id, run_id=run)
                self._noted = run

    def _set_run(self, store: StoreWriter, run: int | None) -> None:
        self._run = run
        try:
            self._note_run(store)
        except StoreError:
            logger.exception("the current run can't be noted; the worker continues")

    @contextmanager
    def _if_idle(self) -> Iterator[bool]:
        idle = self._busy.acquire(blocking=False)
        try:
            yield idle
        finally:
            if idle:
                self._busy.release()

    def _ready(self) -> list[int]:
        """Return the queued runs that can start."""
        with StoreReader(self._home.store) as reader:
            return [run.id for run in reader.runs() if run.state == "queued" and not run.waiting]

    def _on_ticket(self, run_id: int) -> None:
        """Train the first queued run that can start, whatever the run id of the ticket.

        Experiments whose last run has ended are probed first: their answers do not wait for the queue.
        """
        with self._busy:
            if self._stop.is_set():
                return
            try:
                with DeviceUse(self._home.locks, self._device, purpose="a worker") as use:
                    self._waits_for = ""
                    self._serve_probes(use)
                    if not self._stop.is_set():
                        self._claim_and_make(use)
            except LeaseError as error:
                # The run stays queued; a ticket comes again at the next turn of the loop.
                self._wait_for(error)

    def _wait_for(self, error: LeaseError) -> None:
        if self._waits_for != str(error):
            self._waits_for = str(error)
            self._echo(f"waiting: {error}")

    def _claim_and_make(self, use: DeviceUse) -> None:
        if self._room.is_short():
            return
        with StoreWriter(self._home.store) as store:
            claimed = store.claim(self._id, leave=self._resting())
            if claimed is None:
                return
            use.describe(_purpose(claimed))
            self._set_run(store, claimed)
            try:
                self._make(store, claimed)
            finally:
                self._set_run(store, None)

    def _resting(self) -> list[int]:
        """Return the runs whose devices were in use a moment ago."""
        return [run for run, until in self._rests.items() if time.monotonic() < until]

    def _make(self, store: StoreWriter, run_id: int) -> None:
        with StoreReader(self._home.store) as reader:
            name = reader.run(run_id).name
        self._echo(f"run {name} (id {run_id}) started")
        try:
            state = self._supervisor.run(store, run_id, claim=self._id)
        except DevicesBusy as error:
            # Others of the queue go first; this one is tried again later.
            self._rests[run_id] = time.monotonic() + _REST_S
            self._echo(f"run {name} (id {run_id}) is waiting: {error}")
            return
        except NoRoom:
            message = self._room.was_short()
            self._echo(message)
            with suppress(StoreUnavailable):
                store.add_event(None, "warning", kind="no-room", message=message)
            return
        except StoreUnavailable:
            # It stays marked as running, and is queued again at the next beat or by the next worker.
            logger.exception("the outcome of run %s can't be written at the moment", run_id)
            return
        except Exception as error:
            # Boundary of a child's supervisor: a bug here fails one run, not the worker.
            logger.exception("run %s could not be supervised", run_id)
            message = f"could not be supervised: {error}"
            end(store, run_id, claim=self._id, to="failed", message=message)
            state = "failed"
        self._num_failed += state == "failed"
        with StoreReader(self._home.store) as reader:
            message = reader.run(run_id).message
        self._echo(f"run {name} (id {run_id}) {state}{': ' + message if message else ''}")


def harmless(echo: Callable[[str], None]) -> Callable[[str], None]:
    """Return an `echo` that never fails: a terminal that is gone, or a full disk, ends no worker and no run."""

    def say(line: str) -> None:
        try:
            echo(line)
        except (OSError, ValueError):
            logger.info("could not be printed: %s", line)

    return say


def _purpose(run_id: int) -> str:
    pid = os.getpid()
    return (
        f"a worker that is training run {run_id}. Stop the worker first (w in the dashboard, Ctrl-C in "
        f"its terminal, or `kill {pid}`): it saves a checkpoint and queues the run again, and "
        "`sepdash worker` continues it afterwards"
    )


@contextmanager
def _signals_set(stop: threading.Event) -> Iterator[None]:
    """Let SIGTERM, SIGINT and SIGHUP set `stop`; has no effect outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def note(number: int, frame: Any) -> None:
        stop.set()

    # Signals that are ignored stay ignored: nohup.
    heard = [number for number in _SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, note) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
