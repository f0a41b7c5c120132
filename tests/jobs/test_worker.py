"""Runs through queue, worker and child process: every way they can end, kill -9 included."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs import submit
from jobs.home import Home
from jobs.machine.lease import LeaseError
from jobs.machine.processes import process_token
from jobs.queue import RunQueue
from jobs.store.errors import StoreError
from jobs.store.reader import StoreReader
from jobs.store.records import RunRecord
from jobs.store.writer import StoreWriter
from jobs.worker import serve as serving
from jobs.worker.serve import serve
from jobs.worker.supervisor import Child
from tests.waiting import until

FAKES = Path(__file__).parent / "fakes"
COMMAND = (sys.executable, "-P", str(FAKES / "training.py"))
PLAIN, MISTAKE, BUG, DIES, DEAF, DIES_ONCE = range(6)
DEADLINE_S = 60.0


def run_of(home: Home, run_id: int) -> RunRecord:
    """Return a run's row."""
    with StoreReader(home.store) as reader:
        return reader.run(run_id)


def drain(home: Home, **child: float) -> list[str]:
    """Make every queued run in this process; return what the worker said."""
    said: list[str] = []
    serve(home, device="cpu", drain=True, echo=said.append, child=Child(COMMAND, **child))
    return said


@contextlib.contextmanager
def worker(home: Home, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a worker in a process of its own; it and its children are gone afterwards."""
    command = [sys.executable, "-P", str(FAKES / "worker.py"), str(home.root), *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        with StoreReader(home.store) as reader:
            for run in reader.runs():
                if run.pid is not None:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(run.pid, signal.SIGKILL)


@pytest.fixture
def enqueue(home, make_config):
    """Return a function that enqueues a fake run of some updates with some behaviour."""

    def add(behaviour: int = PLAIN, updates: int = 200, **more: object) -> int:
        sections = {
            "schedule": {"length": f"{updates} updates"},
            "logging": {"system_every_s": 0.1},
        }
        return submit.enqueue(home, make_config(seed=behaviour, **sections), **more)

    return add


def assert_whole(home: Home, run_id: int, updates: int) -> None:
    """Check that a finished run's curves have every point once, with the right value."""
    with StoreReader(home.store) as reader:
        run = reader.run(run_id)
        assert (run.state, run.updates, run.message) == ("finished", updates, "")
        curve = reader.curve(run_id, "loss", max_points=10**6)
        assert curve.updates == list(range(1, updates + 1))
        assert curve.last == [1.0 / update for update in curve.updates]
        marks = list(range(20, updates + 1, 20))
        assert reader.curve(run_id, "si_sdr").updates == marks
        assert run.best == marks[-1]
        coarse = reader.curve(run_id, "loss", max_points=5)
        # Buckets are read to 15 digits, points to the bit.
        assert coarse.low[0] == pytest.approx(1.0 / (coarse.bucket - 1), rel=1e-14)
        assert coarse.high[0] == 1.0


def test_runs_are_made_in_queue_order_to_their_end(home, enqueue):
    first, second, third = (enqueue(updates=100) for _ in range(3))
    submit.move(home, third, to="top")

    said = drain(home)

    ended = sorted(
        (run_of(home, id_) for id_ in (first, second, third)), key=lambda r: r.started_at
    )
    assert [run.id for run in ended] == [third, first, second]
    run = ended[0]
    assert (run.state, run.total_updates, run.items, run.audio_seconds) == (
        "finished",
        100,
        200,
        50.0,
    )
    assert (run.best, run.best_ema, run.input_score) == (100.0, 50.0, 3.0)
    assert run.pid is None
    assert run.train_seconds > 0.1
    assert "worker stopped" in said
    for id_ in (first, second, third):
        assert_whole(home, id_, 100)


def test_a_run_leaves_a_log_events_checkpoints_and_samples_of_the_machine(home, enqueue):
    run_id = enqueue()
    drain(home)

    log = home.run_folder(run_id) / "log.txt"
    assert "finished" in run_of(home, run_id).state
    assert "evaluated 2 items" in log.read_text()
    assert log.stat().st_mode & 0o077 == 0
    with StoreReader(home.store) as reader:
        assert [event.message for event in reader.events(run_id)] == ["a notice"]
        assert any("(CPU only)" in event.message for event in reader.events())
        assert [saved.updates for saved in reader.checkpoints(run_id)] == [200]
        samples = reader.system(run_id)
        assert samples
        assert max(sample.process_ram_bytes or 0 for sample in samples) > 10_000_000
        assert reader.workers() == []


def test_a_mistake_of_the_user_is_one_clear_message(home, enqueue):
    run_id = enqueue(MISTAKE)
    after = enqueue(updates=20)
    drain(home)

    run = run_of(home, run_id)
    assert run.state == "failed"
    assert run.message == "data.train: no audio files in /nowhere; give a folder with some"
    assert run_of(home, after).state == "finished"


def test_an_error_is_in_the_log_with_its_traceback(home, enqueue):
    run_id = enqueue(BUG)
    drain(home)

    run = run_of(home, run_id)
    assert (run.state, run.message) == ("failed", "RuntimeError: shapes do not match")
    assert "Traceback" in (home.run_folder(run_id) / "log.txt").read_text()


def test_a_killed_child_resumes_from_its_checkpoint(home, enqueue):
    run_id = enqueue(DIES_ONCE)
    drain(home)

    assert_whole(home, run_id, 200)
    assert "resumed after update 50" in (home.run_folder(run_id) / "log.txt").read_text()
    with StoreReader(home.store) as reader:
        assert [event.kind for event in reader.events(run_id)] == ["killed", "tested"]


@pytest.mark.slow
def test_a_run_that_dies_again_and_again_is_given_up(home, enqueue):
    run_id = enqueue(DIES)
    drain(home)

    run = run_of(home, run_id)
    assert (run.state, run.attempts) == ("failed", 3)
    assert "SIGKILL, after 3 starts without a new checkpoint" in run.message


def test_a_child_that_does_not_start_fails_its_run(home, enqueue):
    run_id = enqueue()
    command = (sys.executable, "-c", "import sys; sys.exit('out of order')")
    assert serve(home, device="cpu", drain=True, echo=str, child=Child(command)) == 1

    run = run_of(home, run_id)
    assert (run.state, run.message) == ("failed", "its process exited with status 1: out of order")


@pytest.mark.slow
def test_stop_then_resume_goes_on_without_a_gap(home, enqueue):
    run_id = enqueue(updates=1000)
    with worker(home) as process:
        until(lambda: run_of(home, run_id).updates > 60, "the run trains")
        submit.stop(home, run_id)
        until(lambda: run_of(home, run_id).state == "stopped", "the run stopped")
        stopped_at = run_of(home, run_id).updates
        assert 60 < stopped_at < 1000
        submit.resume(home, run_id)
        until(lambda: run_of(home, run_id).state == "finished", "the run finished")
        assert process.poll() is None
    assert_whole(home, run_id, 1000)
    assert f"resumed after update {stopped_at}" in (home.run_folder(run_id) / "log.txt").read_text()


def test_a_deaf_child_is_killed_after_the_grace_period(home, enqueue):
    run_id = enqueue(DEAF, updates=100_000)
    ended = threading.Event()
    child = Child(COMMAND, grace_s=0.5)
    thread = threading.Thread(
        target=serve,
        args=(home,),
        kwargs={"device": "cpu", "echo": str, "stop": ended, "child": child},
    )
    thread.start()
    try:
        until(lambda: run_of(home, run_id).updates > 0, "the run trains")
        submit.stop(home, run_id)
        until(lambda: run_of(home, run_id).state == "stopped", "the run stopped")
    finally:
        ended.set()
        thread.join()


def test_a_signal_to_the_worker_saves_the_run_and_queues_it(home, enqueue):
    run_id, waiting = enqueue(updates=2000), enqueue(updates=20)
    with worker(home) as process:
        until(lambda: run_of(home, run_id).updates > 60, "the run trains")
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_S) == 0

    run = run_of(home, run_id)
    assert (run.state, run.attempts) == ("queued", 0)
    assert run.updates > 60
    with StoreReader(home.store) as reader:
        assert [run.id for run in reader.runs()] == [run_id, waiting]
        assert reader.workers() == []


@pytest.mark.slow
@pytest.mark.parametrize("moment", [3, 130])
def test_kill_9_of_the_child_loses_nothing(home, enqueue, moment):
    run_id = enqueue(updates=300)
    with worker(home, "--drain") as process:
        until(lambda: run_of(home, run_id).updates >= moment, "the run trains")
        os.kill(run_of(home, run_id).pid, signal.SIGKILL)
        assert process.wait(DEADLINE_S) == 0
    assert_whole(home, run_id, 300)


@pytest.mark.slow
@pytest.mark.parametrize("moment", [3, 130])
def test_kill_9_of_the_worker_loses_nothing(home, enqueue, moment):
    run_id, waiting = enqueue(updates=400), enqueue(updates=40)
    with worker(home) as process:
        until(lambda: run_of(home, run_id).updates >= moment, "the run trains")
        process.kill()
        process.wait()
        drain(home)
    assert_whole(home, run_id, 400)
    assert_whole(home, waiting, 40)


@pytest.mark.slow
def test_kill_9_of_worker_and_child_together_loses_nothing(home, enqueue):
    run_id = enqueue(updates=300)
    with worker(home) as process:
        until(lambda: run_of(home, run_id).updates >= 70, "the run trains")
        child = run_of(home, run_id).pid
        process.kill()
        os.killpg(child, signal.SIGKILL)
        process.wait()
        until(lambda: not process_token(child), "the child is gone")
        drain(home)
    assert_whole(home, run_id, 300)


def test_lost_tickets_do_no_harm(home, enqueue):
    run_id = enqueue(updates=20)
    queue = RunQueue(home.queue)
    queue.huey.storage.flush_queue()
    queue.close()

    drain(home)

    assert run_of(home, run_id).state == "finished"


def test_a_message_that_is_no_ticket_is_dropped(home, enqueue, tmp_path):
    import pickle

    mark = tmp_path / "executed"

    class Evil:
        def __reduce__(self):
            return Path.touch, (mark,)

    run_id = enqueue(updates=20)
    queue = RunQueue(home.queue)
    queue.huey.storage.flush_queue()
    for message in (pickle.dumps(Evil()), b"{}", b'{"run": "1"}', b"[1]"):
        queue.huey.storage.enqueue(message)
    queue.close()

    drain(home)

    assert run_of(home, run_id).state == "finished"
    assert not mark.exists()


def test_a_second_worker_on_the_same_device_is_refused(home, enqueue):
    enqueue(updates=2000)
    with worker(home) as process:
        with StoreReader(home.store) as reader:
            until(reader.workers, "the worker is up")
            assert [(w.device, w.pid, w.alive) for w in reader.workers()] == [
                ("cpu", process.pid, True)
            ]
        with pytest.raises(LeaseError, match=rf"process {process.pid}\) is using the device 'cpu'"):
            serve(home, device="cpu", echo=str)


def test_a_run_that_its_worker_lost_hold_of_is_taken_up_again(home, enqueue):
    run_id = enqueue(updates=20)
    with worker(home) as process:
        with StoreReader(home.store) as reader:
            until(lambda: run_of(home, run_id).state == "finished", "the run finished")
            until(lambda: reader.workers()[0].run is None, "the worker has nothing in hand")
            (own,) = reader.workers()
        with StoreWriter(home.store) as store:
            store.move(run_id, "running", ("finished",), worker=own.id)
        until(lambda: run_of(home, run_id).state == "finished", "the run finished again")
        assert process.poll() is None
    with StoreReader(home.store) as reader:
        assert "recovered" in [event.kind for event in reader.events(run_id)]


def test_an_idle_worker_writes_nothing(home, enqueue, monkeypatch):
    """A dashboard re-reads the store at each write."""
    beats: list[float] = []
    monkeypatch.setattr(serving, "_BEAT_S", 0.0)
    monkeypatch.setattr(serving, "_LOOP_S", 0.01)
    monkeypatch.setattr(serving.Worker, "_recover", lambda self, store: beats.append(0.0))
    stop = threading.Event()
    words = {"device": "cpu", "echo": str, "stop": stop, "child": Child(COMMAND)}
    thread = threading.Thread(target=serve, args=(home,), kwargs=words)
    thread.start()
    try:
        with StoreReader(home.store) as reader:
            until(lambda: len(beats) > 3, "the worker is idle")
            before, count = reader.data_version(), len(beats)
            until(lambda: len(beats) > count + 20, "it has been idle for twenty beats")
            assert reader.data_version() == before
            # The row names the run that is trained, and none afterwards.
            run_id = enqueue(updates=2000)
            until(lambda: reader.workers()[0].run == run_id, "the row names the run")
            until(lambda: run_of(home, run_id).state == "finished", "the run finished")
            until(lambda: reader.workers()[0].run is None, "the row names none")
    finally:
        stop.set()
        thread.join()


def test_the_current_run_is_written_once_the_store_can_be(home, enqueue, monkeypatch):
    """What failed when the run started is repeated at a beat."""
    note, failures = StoreWriter.note_current, [StoreError("busy"), StoreError("busy")]

    def flaky(self: StoreWriter, worker: int, *, run_id: int | None) -> None:
        if failures:
            raise failures.pop()
        note(self, worker, run_id=run_id)

    monkeypatch.setattr(StoreWriter, "note_current", flaky)
    monkeypatch.setattr(serving, "_BEAT_S", 0.0)
    monkeypatch.setattr(serving, "_LOOP_S", 0.01)
    run_id = enqueue(DEAF, updates=10**6)
    stop = threading.Event()
    words = {"device": "cpu", "echo": str, "stop": stop, "child": Child(COMMAND, grace_s=0.1)}
    thread = threading.Thread(target=serve, args=(home,), kwargs=words)
    thread.start()
    try:
        with StoreReader(home.store) as reader:
            until(lambda: [w.run for w in reader.workers()] == [run_id], "the row names the run")
            assert failures == []
    finally:
        stop.set()
        thread.join()
