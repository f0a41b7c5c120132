"""Rows that something else wrote: every command still lists, shows and removes the run."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest

from jobs.home import Home
from jobs.store.reader import StoreReader
from jobs.store.records import EventRecord, SystemRecord
from jobs.store.row_types import json_object, metrics_of, typed
from jobs.store.writer import StoreWriter

ODD = ("x\x1b[2J", 1.5e308, b"\xff\x00", "[" * 20_000, -1)


@pytest.fixture
def store() -> Home:
    home = Home.locate(None).create()
    with StoreWriter(home.store) as store:
        store.insert_run(
            {"name": "one", "config": json.dumps({"seed": 1}), "fingerprint": "", "seed": 0}
        )
    return home


def columns(home: Home) -> list[str]:
    with closing(sqlite3.connect(home.store)) as connection:
        return [row[1] for row in connection.execute("PRAGMA table_info(runs)") if row[1] != "id"]


@pytest.mark.parametrize("value", ODD)
def test_any_value_in_any_column_is_no_traceback(sepdash, store: Home, value) -> None:
    changed = 0
    for column in columns(store):
        with closing(sqlite3.connect(store.store)) as connection:
            before = connection.execute(f"SELECT {column} FROM runs").fetchone()
            try:
                with connection:
                    connection.execute(f"UPDATE runs SET {column} = ?", (value,))
            except sqlite3.IntegrityError:
                continue
        changed += 1
        for words in (("runs",), ("show", "1"), ("checkpoints", "1")):
            answer = sepdash(*words)
            assert answer.code in (0, 2), (column, words, answer.err)
            assert "\x1b" not in answer.out + answer.err
        assert sepdash("runs").code == 0, column
        with closing(sqlite3.connect(store.store)) as connection, connection:
            connection.execute(f"UPDATE runs SET {column} = ?", before)
    assert changed > 25


def test_what_cant_be_used_is_said_and_the_run_can_be_removed(sepdash, store: Home) -> None:
    with closing(sqlite3.connect(store.store)) as connection, connection:
        connection.execute("UPDATE runs SET updates = 'many', created_at = 1e300, config = '[['")
    with StoreReader(store.store) as reader:
        run = reader.run("one")
    assert (run.updates, run.created_at) == (0, 0.0)
    assert "can't be used: created_at = 1e+300, updates = 'many'" in run.message
    assert "updates = 'many'" in sepdash("show", "one").out
    assert sepdash("rm", "one").code == 0


def test_records_of_other_tables_have_their_types() -> None:
    event = typed(EventRecord, ("x", b"", 1e300, None, 3, b"\xff"))
    assert (event.id, event.time, event.kind, event.message) == (0, 0.0, "", "")
    sample = typed(SystemRecord, (1.0, "x", b"", None, 2.0, "y", 3.5, 1.5, None, 7))
    assert (sample.run, sample.cpu_percent, sample.ram_bytes, sample.ram_total_bytes) == (
        None,
        0.0,
        0,
        2,
    )
    assert (sample.process_ram_bytes, sample.gpu_percent, sample.gpu_name) == (None, 3.5, None)
    assert metrics_of('{"l1": 1, "x": "y", "z": null, "t": true}') == {"l1": 1, "z": None}
    assert metrics_of("[[") == metrics_of(None) == metrics_of("[" * 100_000) == {}
    with pytest.raises(ValueError, match="the config of run 1 can't be read from the store"):
        json_object("[1]", "the config of run 1")
