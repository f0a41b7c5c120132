"""What is done before a new run starts, by hand."""

from __future__ import annotations

import os

import pytest

from engine.config.loading import load_config
from jobs.machine.processes import own_token
from jobs.sweeps.backlog import read_backlog
from jobs.sweeps.measured import Measured
from tests.earlier import add_earlier

NOW = 1_800_000_000.0


def config_of(updates: int, **sections):
    data = {"kind": "bandwidth", "train": "/x/a", "valid": "/x/v"}
    return load_config({"data": data, "schedule": {"length": f"{updates} updates"}, **sections})


@pytest.fixture
def queue(store):
    """Return a function that queues a run; the times of its config are known: 6 + 0.5 n + 2 * 2 s."""
    add_earlier(store, config_of(40), warmup_s=0.0)

    def add(name: str, updates: int = 100, **sections) -> int:
        config = config_of(updates, **sections).to_json()
        row = {
            "name": name,
            "config": config,
            "fingerprint": "",
            "seed": 0,
            "total_updates": updates,
        }
        return store.insert_run(row)

    return add


def read(reader):
    return read_backlog(reader, Measured.of(reader), now=NOW)


def worker_with(store, run: int | None, device: str = "cpu") -> int:
    worker = store.add_worker(device, pid=os.getpid(), token=own_token())
    store.note_current(worker, run_id=run)
    return worker


def ends(found) -> dict[str, float | None]:
    return {a.run.name: a.end and round(a.end.expected - NOW, 6) for a in found.ahead}


def test_without_runs_a_worker_that_starts_now_is_free_now(store, reader) -> None:
    found = read(reader)
    assert [(m.expected, m.latest) for m in found.free] == [(NOW, NOW)]
    assert (found.ahead, found.num_alive) == ((), 0)


def test_queued_runs_follow_each_other(queue, reader) -> None:
    queue("a")
    queue("b", 200)
    found = read(reader)
    assert ends(found) == {"a": 60, "b": 60 + 110}
    assert [m.expected - NOW for m in found.free] == [170]


def test_a_running_run_takes_what_is_left_of_it(queue, store, reader) -> None:
    run = queue("a")
    store.claim(worker_with(store, run))
    store.update_run(run, updates=60, started_at=NOW - 36)
    queue("b")
    # 40 updates and the last evaluation; then a whole run.
    assert ends(read(reader)) == {"a": 22, "b": 82}


def test_a_run_that_is_starting_has_spent_some_of_its_time(queue, store, reader) -> None:
    run = queue("a")
    store.claim(worker_with(store, run))
    store.update_run(run, started_at=NOW - 4)
    assert ends(read(reader)) == {"a": 56}


def test_a_run_that_is_stopping_takes_no_time(queue, store, reader) -> None:
    run = queue("a")
    store.claim(worker_with(store, run))
    store.update_run(run, updates=1, stopping=1)
    assert ends(read(reader)) == {"a": 0}


def test_a_run_left_by_a_dead_worker_starts_again(queue, store, reader) -> None:
    first, second = queue("a"), queue("b")
    store.claim(99)
    store.update_run(first, updates=60)
    found = read(reader)
    # From its checkpoint, with a start: 6 + 40 * 0.5 + 2.
    assert ends(found) == {"a": 28, "b": 88}
    assert second


def test_a_running_run_of_unknown_speed_ends_at_its_current_one(queue, store, reader) -> None:
    run = queue("a", model={"kind": "audio_unet", "width": 8})
    store.claim(worker_with(store, run))
    store.update_run(run, updates=60, speed=2.0)
    assert ends(read(reader)) == {"a": 20}


def test_a_queued_run_of_unknown_speed_leaves_the_end_open(queue, reader) -> None:
    queue("a")
    queue("b", model={"kind": "audio_unet", "width": 8})
    found = read(reader)
    assert found.free is None
    assert [run.name for run in found.unknown] == ["b"]


def test_two_workers_share_the_runs(queue, store, reader) -> None:
    run = queue("a")
    store.claim(worker_with(store, run, "cuda:0"))
    worker_with(store, None, "cuda:1")
    store.update_run(run, updates=60)
    queue("b")
    queue("c")
    found = read(reader)
    # b goes to the free worker, c follows a.
    assert ends(found) == {"a": 22, "b": 60, "c": 82}
    assert [m.expected - NOW for m in found.free] == [60, 82]
    assert found.num_alive == 2


def test_runs_that_wait_in_vain_do_not_count(queue, store, reader) -> None:
    from jobs.store.needs import insert_needs
    from jobs.store.records import NeedRecord

    base, run = queue("base"), queue("a")
    store.move(base, "failed", ("queued",))
    need = NeedRecord(run, "init_from", reference="base", needed=base, needed_name="base",
                      which="best", only_at_start=True)  # fmt: skip
    with store.transaction() as connection:
        insert_needs(connection, [need])
    assert read(reader).ahead == ()
