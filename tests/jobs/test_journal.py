"""The journal of points on a disk that is full for a moment, and of a file that something else wrote."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from engine.config.counters import Counters
from engine.events import PointsRecorded
from jobs.sinks.journal import Block, Journal
from jobs.sinks.store import StoreSink
from jobs.store.writer import StoreWriter


def block(first: int, last: int) -> Block:
    """Return a block whose loss is the update."""
    updates = np.arange(first, last + 1)
    return Block(updates, {"loss": updates.astype(float)}, units={"loss": ""})


@contextmanager
def room_for(num_bytes: int) -> Iterator[None]:
    """Let no file grow beyond a size; the system writes what fits, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_what_fits_of_a_block_on_a_full_disk_is_cut_back(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = Journal(path)
    journal.append(block(1, 10))
    size = path.stat().st_size
    with room_for(size + 500), pytest.raises(OSError, match="only a part"):
        journal.append(block(11, 200))
    assert path.stat().st_size == size
    journal.append(block(201, 205))
    found = list(journal.blocks())
    assert [one.updates.tolist() for one in found] == [[*range(1, 11)], [*range(201, 206)]]
    assert [one.series["loss"][-1] for one in found] == [10.0, 205.0]
    journal.close()


def test_a_moment_without_room_is_said_once_and_passes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = StoreWriter(tmp_path / "runs.db")
    run = store.insert_run({"name": "run", "config": "{}", "fingerprint": "", "seed": 0})
    sink = StoreSink(store.path, run, folder=tmp_path)
    with store.transaction():  # what is written meanwhile reaches the journal alone
        for first, room in ((1, 0), (11, 0), (21, 10**9)):
            with room_for(room):
                points = block(first, first + 9)
                event = PointsRecorded(
                    points.updates, points.series, units={}, counters=Counters(first + 9)
                )
                sink.on_event(event)
        journal = Journal(tmp_path / "points.journal")
        assert [one.updates[0] for one in journal.blocks()] == [21]
        journal.close()
    sink.close()
    assert caplog.text.count("the journal of points can't be written") == 1
    rows = store.rows("SELECT min(step), max(step), count(*) FROM points")
    assert rows == [(1, 30, 30)]
    store.close()


@pytest.mark.parametrize(
    "head", ['{"count": -1, "names": ["a"], "units": {}}', "[" * 10_000, '{"count": 1e300}', "\xff"]
)
def test_a_file_of_something_else_is_read_to_its_end(tmp_path: Path, head: str) -> None:
    path = tmp_path / "journal"
    path.write_bytes(head.encode("latin-1") + b"\n" + bytes(100))
    journal = Journal(path)
    assert list(journal.blocks()) == []
    journal.close()
