"""Troubles of a night that must lose no run: locked stores, full disks, lost claims, damaged queues, dead terminals."""

from __future__ import annotations

import errno
import os
import sqlite3
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from jobs import submit
from jobs.child import control, runner
from jobs.home import Home
from jobs.machine.devices import DevicesBusy
from jobs.machine.processes import own_token
from jobs.queue import QueueDamaged, RunQueue
from jobs.store.errors import StoreError, StoreUnavailable
from jobs.store.outcomes import NO_ROOM, STORE_BUSY, end, patiently, requeue
from jobs.store.reader import StoreReader
from jobs.store.writer import StoreWriter
from jobs.worker import serve as serving
from jobs.worker import supervisor
from jobs.worker.recovery import recover
from jobs.worker.room import Room
from jobs.worker.serve import harmless, serve
from jobs.worker.supervisor import Child, Life
from tests.jobs.test_worker import COMMAND, PLAIN, assert_whole, drain, run_of
from tests.waiting import until

SHORT_S = 0.2


@pytest.fixture
def enqueue(home, make_config):
    """Return a function that enqueues a fake run of some updates."""

    def add(updates: int = 40) -> int:
        config = make_config(seed=PLAIN, schedule={"length": f"{updates} updates"})
        return submit.enqueue(home, config)

    return add


def exits_with(*codes: int) -> tuple[str, ...]:
    """Return the command of a child that ends with these codes, one after another, then trains."""
    text = (
        "import sys, pathlib, runpy; seen = pathlib.Path('starts'); n = len(seen.read_text()) if seen.exists() "
        f"else 0; seen.write_text('x' * (n + 1)); codes = {codes!r}; print('so it ended', n)\n"
        f"if n < len(codes): sys.exit(codes[n])\nsys.argv[0] = {COMMAND[-1]!r}; sys.path.insert(0, {str(Path.cwd())!r})\n"
        f"runpy.run_path({COMMAND[-1]!r}, run_name='__main__')"
    )
    return (sys.executable, "-c", text)


class TestClaims:
    """Whoever ends a run must be the one who has it."""

    def test_a_worker_that_lost_its_claim_ends_nothing(self, home, enqueue, store):
        run_id = enqueue()
        first, second = (store.add_worker(name, pid=1, token="") for name in ("cpu", "cuda:0"))
        assert store.claim(first) == run_id
        assert requeue(store, run_id, claim=first) == "queued"
        assert store.claim(second) == run_id

        assert not end(store, run_id, claim=first, to="failed", message="status 0")
        assert requeue(store, run_id, claim=first) is None
        assert run_of(home, run_id).state == "running"
        assert end(store, run_id, claim=second, to="finished")

    def test_the_worker_of_a_child_that_queued_its_run_leaves_it_to_the_next(self, home, enqueue):
        """What the first worker did once: it saw `running`, of the second one, and called the run failed."""
        run_id = enqueue()
        script = (
            "import sys; from pathlib import Path; from jobs.store.writer import StoreWriter; from jobs.store.outcomes "
            "import requeue; at = sys.argv.index('--worker'); s = StoreWriter(Path(sys.argv[2]) / 'runs.db'); "
            f"requeue(s, {run_id}, claim=int(sys.argv[at + 1])); "
            "other = s.add_worker('cuda:7', pid=PID, token='TOKEN'); assert s.claim(other)"
        )
        script = script.replace("PID", str(os.getpid())).replace("TOKEN", own_token())
        serve(home, device="cpu", drain=True, echo=str, child=Child((sys.executable, "-c", script)))

        assert run_of(home, run_id).state == "running"

    def test_two_recoveries_queue_a_run_once(self, home, enqueue, store):
        run_id = enqueue()
        dead = store.add_worker("cuda:0", pid=2**22 + 1, token="gone")
        own = store.add_worker("cpu", pid=os.getpid(), token=own_token())
        store.claim(dead)
        rows = store.rows

        def meanwhile(sql: str, values: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
            found = rows(sql, values)
            # Another worker was faster: it has recovered the run, and claimed it.
            requeue(store, run_id, claim=dead)
            store.claim(own)
            return found

        store.rows = meanwhile
        said: list[str] = []
        recover(store, worker=own, grace_s=0.1, echo=said.append)
        assert said == []
        assert run_of(home, run_id).state == "running"

    def test_a_run_removed_during_its_recovery_is_no_error(self, home, enqueue, store):
        run_id = enqueue()
        dead = store.add_worker("cuda:0", pid=2**22 + 1, token="gone")
        store.claim(dead)
        rows = store.rows

        def meanwhile(sql: str, values: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
            found = rows(sql, values)
            submit.remove(home, run_id)
            return found

        store.rows = meanwhile
        recover(store, worker=dead + 1, grace_s=0.1, echo=str)


class TestStore:
    """A store that can't be written is no death."""

    def test_outcomes_wait_for_it(self):
        tries: list[int] = []

        def write() -> str:
            tries.append(1)
            if len(tries) < 3:
                raise StoreUnavailable("locked")
            return "written"

        assert patiently(write, give_up=lambda: False, pause_s=0) == "written"
        with pytest.raises(StoreUnavailable):
            patiently(lambda: _raise(StoreUnavailable("locked")), give_up=lambda: True)

    def test_locked_and_no_database_are_told_apart(self, home, store):
        other = sqlite3.connect(home.store, timeout=0, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        store._connection.execute("PRAGMA busy_timeout = 0")
        with pytest.raises(StoreUnavailable, match="locked"):
            store.forget_system(0.0)
        other.close()
        odd = home.root / "odd.db"
        odd.write_bytes(b"no database, " * 100)
        with pytest.raises(StoreError) as found:
            StoreWriter(odd)
        assert not isinstance(found.value, StoreUnavailable)

    def test_a_child_that_could_not_use_it_starts_again_and_that_counts_as_no_failure(
        self, home, enqueue
    ):
        run_id = enqueue()
        command = exits_with(*[STORE_BUSY] * 4)
        assert serve(home, device="cpu", drain=True, echo=str, child=Child(command)) == 0
        assert_whole(home, run_id, 40)

    def test_a_lock_at_the_end_of_a_run_does_not_fail_it(self, home, enqueue, monkeypatch):
        run_id = enqueue()
        failures = [StoreUnavailable("locked")] * 2
        real = runner.end

        def locked_twice(*words: object, **more: object) -> bool:
            if failures:
                raise failures.pop()
            return real(*words, **more)

        monkeypatch.setattr(runner, "end", locked_twice)
        with StoreWriter(home.store) as store:
            claim = store.add_worker("cpu", pid=os.getpid(), token=own_token())
            store.claim(claim)
        home.run_folder(run_id).mkdir(parents=True)
        monkeypatch.syspath_prepend(str(Path(COMMAND[-1]).parent))
        import training

        words = ("--home", home.root, "--run", run_id, "--device", "cpu", "--worker", claim)
        monkeypatch.setattr(runner.RunControl, "listen", lambda self: None)
        assert runner.main([str(word) for word in words], train=training.train) == 0
        assert (failures, run_of(home, run_id).state) == ([], "finished")

    def test_many_first_writers_at_once_wait_for_each_other(self, tmp_path):
        home = Home(tmp_path / "fresh").create()

        def begin(number: int) -> None:
            StoreWriter(home.store).close()
            queue = RunQueue(home.queue)
            queue.push(number)
            queue.close()

        with ThreadPoolExecutor(16) as threads:
            list(threads.map(begin, range(32)))
        queue = RunQueue(home.queue)
        assert queue.size() == 32
        queue.close()


class TestDevices:
    """A run whose devices are in use waits for them, and the others of the queue do not."""

    def test_it_is_not_failed_and_goes_on_later(self, home, enqueue, monkeypatch):
        first, second = enqueue(), enqueue()
        taken, asked = supervisor.devices_taken, []

        def busy(*words: object, **more: object) -> object:
            asked.append(1)
            if len(asked) == 1:
                raise DevicesBusy("precision.devices = 2, but other programs are using cuda:1")
            return taken(*words, **more)

        monkeypatch.setattr(supervisor, "devices_taken", busy)
        monkeypatch.setattr(serving, "_REST_S", 1.0)
        said = drain(home)
        started = [line for line in said if line.endswith("started")]
        assert [
            f"(id {id_})" in line for id_, line in zip((first, second, first), started, strict=True)
        ] == ([True] * 3)
        assert any("is waiting: precision.devices = 2, but other programs" in line for line in said)
        for run_id in (first, second):
            assert_whole(home, run_id, 40)
        with StoreReader(home.store) as reader:
            assert "no-device" not in [event.kind for event in reader.events(first)]


class TestProgress:
    """A run that gets on lives; one that does not is ended and made again."""

    def test_a_stuck_run_is_ended_reported_and_made_again(self, home, enqueue, monkeypatch):
        run_id = enqueue()
        starts = home.run_folder(run_id) / "starts"
        # The first start is stuck, and nothing but that is decided by the clock of a busy machine.
        ended: list[bool] = []

        def once(life: Life) -> bool:
            if starts.exists() and not ended:
                ended.append(True)
                return True
            return False

        monkeypatch.setattr(Life, "is_over", once)
        first = "if n == 0: __import__('time').sleep(600)"
        command = exits_with()
        text = command[-1].replace("if n < len(codes): sys.exit(codes[n])", first)
        child = Child((*command[:-1], text), stall_s=7.0)
        assert serve(home, device="cpu", drain=True, echo=str, child=child) == 0
        assert_whole(home, run_id, 40)
        with StoreReader(home.store) as reader:
            (event,) = [e for e in reader.events(run_id) if e.kind == "killed"]
        assert "made no progress for 7 s and was killed" in event.message

    def test_whoever_asks_gets_on_and_nobody_else(self, tmp_path, monkeypatch):
        monkeypatch.setattr(control, "_TOUCH_S", 0.01)
        path = tmp_path / "progress"
        asked = control.RunControl()
        asked.show_progress(path)
        life = Life(path, stall_s=0.05)
        assert not life.is_over()
        until(life.is_over, "nobody asked")
        asked.interruption()
        until(lambda: not life.is_over(), "an evaluation asked")
        until(life.is_over, "nobody asked since")
        asked.stop_reason()
        until(lambda: not life.is_over(), "the loop asked")


class TestDisk:
    """A full disk pauses the queue, and fails nothing."""

    def test_what_says_that_it_is_full(self):
        full = OSError(errno.ENOSPC, "No space left on device")
        wrapped = ValueError("no disk space left to save")
        wrapped.__cause__ = full
        assert runner.is_full(full)
        assert runner.is_full(wrapped)
        assert not runner.is_full(ValueError("rate_hz"))
        assert not runner.is_full(OSError(errno.ENOENT, "gone"))

    def test_the_queue_pauses_until_there_is_room(self, home, enqueue, monkeypatch):
        first, second = enqueue(), enqueue()
        free = [10]
        monkeypatch.setattr(Room, "_free", lambda self: free[0])
        said: list[str] = []
        pauses: list[bool] = []
        short = Room.is_short

        def seen(self: Room) -> bool:
            answer = short(self)
            pauses.append(answer)
            if answer and pauses[-3:] == [True] * 3:
                free[0] += 2**27
            return answer

        monkeypatch.setattr(Room, "is_short", seen)
        child = Child(exits_with(NO_ROOM))
        assert serve(home, device="cpu", drain=True, echo=said.append, child=child) == 0
        assert True in pauses
        # The second run has a folder of its own: its first start ends in the same way.
        assert sum("the queue pauses" in line for line in said) == 2
        for run_id in (first, second):
            assert_whole(home, run_id, 40)


class TestQueueFile:
    """The store is the truth; a queue file is made anew."""

    def test_garbage_is_put_aside_and_the_runs_are_made(self, home, enqueue):
        run_id = enqueue()
        for path in home.root.glob("queue.db*"):
            path.unlink()
        home.queue.write_bytes(b"garbage " * 4096)
        drain(home)
        assert_whole(home, run_id, 40)
        assert (home.root / "queue.db.broken").read_bytes().startswith(b"garbage")

    def test_enqueue_works_on_garbage_and_where_it_can_not_be_written(self, home, enqueue):
        home.queue.write_bytes(b"garbage " * 4096)
        first = enqueue()
        assert (home.root / "queue.db.broken").exists()
        (home.root / "queue.db").unlink()
        (home.root / "queue.db").mkdir()
        second = enqueue()
        assert [run_of(home, id_).state for id_ in (first, second)] == ["queued", "queued"]

    def test_a_file_without_its_table_is_made_anew(self, home, enqueue):
        """What a restore, or another program, may leave under a worker that just starts."""
        queue = RunQueue(home.queue)
        queue.huey.storage.conn.execute("DROP TABLE task")
        with pytest.raises(QueueDamaged):
            queue.size()
        queue.close()

    def test_a_file_damaged_under_a_worker_is_made_anew(self, home, enqueue, monkeypatch):
        monkeypatch.setattr(serving, "_LOOP_S", 0.01)
        begin = serving.Worker._begin

        def damage(self: serving.Worker, *words: object) -> None:
            begin(self, *words)
            for path in home.root.glob("queue.db*"):
                path.write_bytes(b"garbage " * 4096)

        run_id = enqueue()
        monkeypatch.setattr(serving.Worker, "_begin", damage)
        said = drain(home)
        assert_whole(home, run_id, 40)
        assert any("queue file was damaged" in line for line in said)


class TestTerminal:
    """Telling about a run can't fail it."""

    @pytest.mark.parametrize(
        "error", [BrokenPipeError(), OSError(errno.EIO, "gone"), ValueError("closed file")]
    )
    def test_a_terminal_that_is_gone_ends_no_worker(self, home, enqueue, error):
        run_id = enqueue()
        said: list[str] = []

        def echo(line: str) -> None:
            said.append(line)
            raise error

        child = Child(COMMAND)
        assert serve(home, device="cpu", drain=True, echo=echo, child=child) == 0
        assert_whole(home, run_id, 40)
        assert "worker stopped" in said

    def test_an_error_of_our_own_is_still_one(self):
        with pytest.raises(KeyError):
            harmless(lambda line: _raise(KeyError(line)))("a line")


def test_a_run_that_is_queued_while_the_worker_decides_to_leave_is_not_stopped(
    home, enqueue, monkeypatch
):
    """Between the last look at the queue and the end, a ticket could begin a run, which was then stopped."""
    enqueue()
    decided = serving.Worker._nothing_starts
    late: list[int] = []

    def queue_another(self: serving.Worker) -> bool:
        answer = decided(self)
        if answer and not late:
            late.append(enqueue(2000))
            time.sleep(SHORT_S)
        return answer

    monkeypatch.setattr(serving.Worker, "_nothing_starts", queue_another)
    said = drain(home)
    run = run_of(home, late[0])
    assert (run.state, run.attempts) == ("queued", 0)
    assert not any(f"(id {run.id}) started" in line for line in said)


def _raise(error: Exception) -> None:
    raise error
