"""The store: what is written comes back, at any resolution, and bad files have clear messages."""

from __future__ import annotations

import json
import math
import os
import sqlite3
import time

import pytest
from sqlite_utils import Database

from jobs.home import Home
from jobs.machine.processes import own_token
from jobs.store.errors import StoreError, UnknownRun
from jobs.store.migrations import migrations
from jobs.store.reader import StoreReader
from jobs.store.records import ClipRecord, EvaluationRecord, SystemRecord
from jobs.store.writer import StoreWriter


def add_run(store: StoreWriter, name: str = "run") -> int:
    """Insert a run with nothing particular about it."""
    return store.insert_run({"name": name, "config": "{}", "fingerprint": "", "seed": 0})


def add(
    store: StoreWriter, run_id: int, first: int, values: list[float], name: str = "loss"
) -> None:
    """Add values at consecutive updates from `first`."""
    steps = range(first, first + len(values))
    store.add_points(run_id, steps=steps, series={name: values}, units={name: "dB"})


def rollups(store: StoreWriter) -> list[tuple]:
    """Return all rollups, in order."""
    with store.transaction() as connection:
        return connection.execute("SELECT * FROM rollups ORDER BY 1, 2, 3, 4").fetchall()


def test_a_missing_store_reads_as_empty(tmp_path):
    with StoreReader(tmp_path / "none.db") as reader:
        assert reader.runs() == []
        assert reader.data_version() == 0
        assert reader.curve(1, "loss").updates == []
        assert reader.events() == reader.system() == reader.workers() == []
        with pytest.raises(UnknownRun, match="no runs yet; enqueue one"):
            reader.run("x")
    assert not (tmp_path / "none.db").exists()


def test_a_reader_sees_a_store_made_later(home, tmp_path):
    with StoreReader(home.store) as reader:
        assert reader.runs() == []
        with StoreWriter(home.store) as store:
            add_run(store)
            assert [run.name for run in reader.runs()] == ["run"]
            before = reader.data_version()
            assert reader.data_version() == before
            add_run(store, "second")
            assert reader.data_version() != before
        assert len(reader.runs()) == 2


def test_a_store_at_rest_can_be_read(home):
    with StoreWriter(home.store) as store:
        add_run(store)
    assert not home.store.with_name("runs.db-wal").exists()

    with StoreReader(home.store) as reader:
        assert len(reader.runs()) == 1


def test_a_newer_store_is_refused(home):
    with StoreWriter(home.store):
        pass
    with sqlite3.connect(home.store) as connection:
        connection.execute("PRAGMA user_version = 999")

    with pytest.raises(StoreError, match=r"newer sepdash .schema 999"):
        StoreWriter(home.store)
    with StoreReader(home.store) as reader, pytest.raises(StoreError, match="upgrade sepdash"):
        reader.runs()


def test_an_older_store_is_read_as_it_is_and_brought_up_to_date_by_a_writer(home):
    """Version 1 knew no items, and no metric but SI-SDR."""
    with sqlite3.connect(home.store) as connection:
        migrations.apply(Database(connection), stop_before="m002_item_results")
        connection.execute(
            "INSERT INTO runs (name, state, position, config, fingerprint, seed, created_at, "
            "best_si_sdr, best_si_sdr_ema, input_si_sdr) "
            "VALUES ('old', 'finished', 1, '{}', '', 0, 0, 9.5, 10.5, 6.0)"
        )
        config = json.dumps({"schedule": {"length": "64 samples"}})
        connection.execute("UPDATE runs SET samples = 64, config = ?", (config,))
        connection.execute(
            "INSERT INTO samples (run, updates, item, kind, path, created_at) "
            "VALUES (1, 10, '0', 'estimate', 'samples/item-0000/estimate.wav', 0)"
        )
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    connection.close()

    with StoreReader(home.store) as reader:
        assert reader.evaluations(reader.run("old").id) == []
        assert reader.item_results(1, 10, metric="si_sdr") == []
        clip = ClipRecord(
            1, 10, item="0", kind="estimate", path="samples/item-0000/estimate.wav", spectrogram=""
        )
        assert reader.clips(1) == [clip]
        assert reader.config(1) == {"schedule": {"length": "64 items"}}
        before = reader.run("old")
        assert before.items == 64
        assert (before.metric, before.best, before.best_ema) == ("si_sdr", 9.5, 10.5)
        assert (before.top, before.input_score, before.gain) == (10.5, 6.0, 4.5)
        with StoreWriter(home.store):
            assert reader.runs() == [before]
            assert reader.clips(1) == [clip]
    with StoreWriter(home.store) as store, StoreReader(home.store) as reader:
        assert reader.run("old") == before
        assert reader.clips(1) == [clip]
        store.add_results(
            EvaluationRecord(1, 10, train_seconds=2.5, items_key="key"), {"si_sdr": [1.0]}
        )
        assert reader.item_results(1, 10, metric="si_sdr") == [1.0]
    with StoreWriter(home.store) as store:
        assert store.rows("PRAGMA user_version") == [(8,)]
        names = store.rows("SELECT name FROM _sqlite_migrations ORDER BY 1")
        applied = ["m001_initial", "m002_item_results", "m003_headline"]
        applied += [
            "m004_items_and_clips",
            "m005_epochs",
            "m006_needs",
            "m007_unread",
            "m008_texts",
        ]
        assert names == [(name,) for name in applied]


def test_a_file_that_is_no_store_is_refused(home):
    home.store.write_bytes(b"no database at all, but long enough" * 100)

    with pytest.raises(StoreError, match="is not a readable run store"):
        StoreWriter(home.store)
    with (
        StoreReader(home.store) as reader,
        pytest.raises(StoreError, match="is not a readable run store"),
    ):
        reader.runs()


def test_a_full_disk_is_reported(home, store):
    run_id = add_run(store)
    with store.transaction() as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages + 2}")

    with pytest.raises(StoreError, match="can't be written: database or disk is full"):
        add(store, run_id, 1, [1.0] * 5000)
    assert rollups(store) == []


def test_runs_are_listed_in_queue_order(store, reader):
    ids = {name: add_run(store, name) for name in "abcdef"}
    store.move(ids["c"], "running", ("queued",))
    store.move(ids["a"], "finished", ("queued",), ended_at=10.0)
    store.move(ids["e"], "failed", ("queued",), ended_at=20.0)
    store.reorder([ids["f"], ids["b"], ids["d"]])

    assert "".join(run.name for run in reader.runs()) == "cfbdea"


def test_a_state_moves_by_compare_and_swap(store, reader):
    run_id = add_run(store)

    assert store.move(run_id, "running", ("queued",), pid=7)
    assert not store.move(run_id, "running", ("queued",), pid=8)
    assert reader.run(run_id).pid == 7


def test_claim_takes_the_first_queued_run_once(store, reader):
    first, second = add_run(store, "a"), add_run(store, "b")
    store.reorder([second, first])

    assert [store.claim(1), store.claim(1), store.claim(1)] == [second, first, None]
    assert reader.run(second).attempts == 1


def test_an_unknown_name_gets_a_hint(store, reader):
    add_run(store, "vocals-small-1")

    with pytest.raises(UnknownRun, match="no run 'vocal-small-1', did you mean 'vocals-small-1'"):
        reader.run("vocal-small-1")


def test_points_come_back_as_they_were(store, reader):
    run_id = add_run(store)
    add(store, run_id, 1, [3.0, math.nan, 1.0])

    curve = reader.curve(run_id, "loss")

    assert (curve.unit, curve.bucket, curve.updates) == ("dB", 1, [1, 2, 3])
    assert curve.low == curve.high == curve.mean == curve.last == [3.0, None, 1.0]
    assert reader.latest(run_id) == {"loss": 1.0}
    assert reader.series_names(run_id) == ["loss"]


def test_buckets_hold_minimum_maximum_mean_and_last(store, reader):
    run_id = add_run(store)
    values = [float(step % 7) for step in range(1, 1001)]
    values[99] = 50.0
    values[500] = math.nan
    for first in range(0, 1000, 37):
        add(store, run_id, first + 1, values[first : first + 37])

    curve = reader.curve(run_id, "loss", max_points=10)

    assert curve.bucket >= 100
    assert len(curve.updates) <= 11
    for index, start in enumerate(curve.updates):
        inside = [
            value
            for step, value in enumerate(values, 1)
            if start <= step < start + curve.bucket and math.isfinite(value)
        ]
        assert curve.low[index] == min(inside)
        assert curve.high[index] == max(inside)
        assert curve.mean[index] == pytest.approx(sum(inside) / len(inside))
        assert curve.last[index] == inside[-1]


def test_a_window_of_a_curve_is_read_finer(store, reader):
    run_id = add_run(store)
    add(store, run_id, 1, [float(step) for step in range(1, 5001)])

    whole = reader.curve(run_id, "loss", max_points=100)
    part = reader.curve(run_id, "loss", first=2000, last=2050, max_points=100)

    assert whole.bucket > 1
    assert 25 <= len(whole.updates) <= 101
    assert (part.bucket, part.updates) == (1, list(range(2000, 2051)))


@pytest.mark.parametrize("cut", [0, 1, 15, 16, 250, 256, 4096, 4999, 6000])
def test_a_cut_curve_equals_one_that_never_went_further(store, home, cut):
    values = [math.sin(step) for step in range(1, 5001)]
    run_id = add_run(store)
    add(store, run_id, 1, values)
    store.truncate_after(run_id, cut)
    found = rollups(store)
    reference = add_run(store, "reference")
    add(store, reference, 1, values[:cut])

    expected = [row for row in rollups(store) if row[0] == reference]

    assert [row[2:] for row in found] == [pytest.approx(row[2:]) for row in expected]


def test_points_that_are_there_already_are_passed_over(store, reader):
    run_id = add_run(store)
    add(store, run_id, 1, [1.0, 2.0])
    add(store, run_id, 2, [9.0, 3.0])

    assert reader.curve(run_id, "loss").last == [1.0, 2.0, 3.0]
    assert {row[7] for row in rollups(store)} == {3}


def test_item_results_come_back_in_order_without_what_is_no_number(store, reader):
    run_id = add_run(store)
    for updates in (1, 10):
        store.add_results(
            EvaluationRecord(run_id, updates, train_seconds=updates / 2, items_key="items"),
            {"si_sdr": [1.5, math.nan, -2.0 / 3], "val_loss": [math.inf, 0.0, updates]},
        )

    assert reader.evaluations(run_id) == [
        EvaluationRecord(run_id, 1, train_seconds=0.5, items_key="items"), EvaluationRecord(run_id, 10, train_seconds=5.0, items_key="items"),
    ]  # fmt: skip
    assert reader.item_results(run_id, 10, metric="si_sdr") == [1.5, None, -0.666667]
    assert reader.item_results(run_id, 10, metric="val_loss") == [None, 0.0, 10]
    assert (
        reader.item_results(run_id, 5, metric="si_sdr")
        == reader.item_results(run_id, 1, metric="x")
        == []
    )
    query = (
        "SELECT value FROM item_results, json_each(results) WHERE updates = 1 AND metric = 'si_sdr'"
    )
    assert store.rows(query) == [(1.5,), (None,), (-0.666667,)]


def test_a_resumed_run_forgets_evaluations_after_its_checkpoint(store, reader):
    run_id = add_run(store)
    for updates in (1, 10, 20):
        store.add_results(
            EvaluationRecord(run_id, updates, train_seconds=1.0, items_key="a"),
            {"si_sdr": [float(updates)]},
        )
        store.add_clips(
            [
                ClipRecord(
                    run_id,
                    updates,
                    item="0",
                    kind="estimate",
                    path=f"{updates}.wav",
                    spectrogram="",
                )
            ]
        )

    store.truncate_after(run_id, 10)

    assert [found.updates for found in reader.evaluations(run_id)] == [1, 10]
    assert reader.item_results(run_id, 20, metric="si_sdr") == []
    assert [found.path for found in reader.clips(run_id)] == ["1.wav", "10.wav"]
    store.add_results(
        EvaluationRecord(run_id, 10, train_seconds=9.0, items_key="b"), {"si_sdr": [0.0]}
    )
    assert reader.item_results(run_id, 10, metric="si_sdr") == [10.0]


def test_a_removed_run_leaves_nothing_behind(store):
    run_id = add_run(store)
    store.add_results(
        EvaluationRecord(run_id, 1, train_seconds=1.0, items_key="items"), {"si_sdr": [1.0]}
    )
    add(store, run_id, 1, [1.0])
    store.add_event(run_id, "info", kind="test", message="hello")

    assert store.delete_run(run_id)

    with store.transaction() as connection:
        for table in (
            "runs", "series", "points", "rollups", "events", "evaluations", "item_results",
        ):  # fmt: skip
            assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,), table
    assert add_run(store) > run_id


def test_events_are_listed_oldest_first_and_incrementally(store, reader):
    run_id = add_run(store)
    for number in range(5):
        store.add_event(run_id if number % 2 else None, "info", kind="test", message=str(number))

    assert [event.message for event in reader.events(limit=3)] == ["2", "3", "4"]
    assert [event.message for event in reader.events(run_id)] == ["1", "3"]
    assert reader.events(after=reader.events()[-1].id) == []


def test_checkpoints_gone_from_disk_are_forgotten(store, reader, tmp_path):
    run_id = add_run(store)
    for updates in (10, 20):
        folder = tmp_path / f"last-{updates}"
        if updates == 20:
            folder.mkdir()
        store.add_checkpoint(
            run_id, "last", path=str(folder), updates=updates, metrics={"si_sdr": 1.5}, size_bytes=9
        )

    (found,) = reader.checkpoints(run_id)

    assert (found.updates, found.metrics, found.size_bytes) == (20, {"si_sdr": 1.5}, 9)


def test_system_samples_are_thinned_by_mean_and_peak(store, reader):
    now = time.time()
    for second in range(10):
        store.add_system(
            SystemRecord(
                now + second,
                None,
                cpu_percent=float(second),
                ram_bytes=100 + second,
                ram_total_bytes=999,
                process_ram_bytes=None,
                gpu_percent=None,
                vram_bytes=None,
                vram_total_bytes=None,
                gpu_name=None,
            )
        )

    samples = reader.system(since=now, max_points=5)

    assert [sample.cpu_percent for sample in samples] == [0.5, 2.5, 4.5, 6.5, 8.5]
    assert [sample.ram_bytes for sample in samples] == [101, 103, 105, 107, 109]
    store.forget_system(now + 8)
    assert len(reader.system()) == 2


def test_workers_are_alive_only_while_their_process_is(home: Home, store, reader):
    store.add_worker("cpu", pid=os.getpid(), token=own_token())
    store.add_worker("cuda:0", pid=os.getpid(), token="of an earlier process")

    assert {worker.device: worker.alive for worker in reader.workers()} == {
        "cpu": True,
        "cuda:0": False,
    }
