"""Whatever a run says reaches the store exactly once, whenever its process is killed; the rows of checkpoints are the disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.checkpoints.layout import MANIFEST
from engine.config.counters import Counters
from engine.events import ClipFile, ClipsWritten, Evaluated, Event, Noticed, RunStarted
from jobs import submit
from jobs.sinks.store import StoreSink
from jobs.store.errors import StoreUnavailable
from jobs.store.reader import StoreReader
from jobs.store.writer import StoreWriter

AT = Counters(20, 20, 40, audio_seconds=10.0, epochs=1.0)
EVALUATION = Evaluated(
    AT, {"si_sdr": 7.5, "si_sdr_ema": 8.5, "input_si_sdr": 1.5}, units={"si_sdr": "dB"}, duration_s=1.0,
    num_items=3, num_excluded=1, items={"si_sdr": np.array([7.0, np.nan, 8.0])}, items_key="key",
)  # fmt: skip
CLIPS = ClipsWritten(AT, (ClipFile(20, 0, "estimate", "clips/1.flac", spectrogram="clips/1.png"),))
NOTICE = Noticed("warning", "over-fitting", message="it rises", counters=AT, details={"by": 2})
STARTED = RunStarted(
    Counters(), 100, resumed_from=0, device="cpu", num_parameters=1, num_train_items=1, num_valid_items=3
)  # fmt: skip


@pytest.fixture
def run_id(store: StoreWriter) -> int:
    """A run that a worker makes."""
    return store.insert_run({"name": "run", "config": "{}", "fingerprint": "", "seed": 0})


def killed_after(store: StoreWriter, run_id: int, folder: Path, events: list[Event]) -> None:
    """Tell these events to a sink whose store is locked, as if the process was killed then."""
    sink = StoreSink(store.path, run_id, folder=folder)

    def locked(batch: Any) -> None:
        raise StoreUnavailable("locked")

    sink._pump._handle = locked
    for event in events:
        sink.on_event(event)
    sink._pump.close(0.0)


def again(store: StoreWriter, run_id: int, folder: Path) -> None:
    """Start the next process of the run, and end it."""
    sink = StoreSink(store.path, run_id, folder=folder)
    sink.on_event(RunStarted(AT, 100, 20, "cpu", 1, num_train_items=1, num_valid_items=3))
    sink.close()


def facts(path: Path, run_id: int) -> dict[str, Any]:
    """Return what the store knows of the run."""
    with StoreReader(path) as reader:
        run = reader.run(run_id)
        (event,) = reader.events(run_id)
        return {
            "best": (run.best, run.best_ema, run.input_score),
            "curve": reader.curve(run_id, "si_sdr").last,
            "clips": [(c.updates, c.item, c.path) for c in reader.clips(run_id)],
            "events": (event.level, event.kind, event.message),
        }


def items_of(store: StoreWriter) -> list[tuple[Any, ...]]:
    return store.rows(
        "SELECT i.updates, metric, results, items_key FROM item_results i JOIN evaluations USING (run, updates)"
    )


def test_the_last_evaluation_of_a_killed_process_is_kept(home, store, run_id, tmp_path):
    killed_after(store, run_id, tmp_path, [STARTED, EVALUATION, CLIPS, NOTICE])
    assert items_of(store) == []
    again(store, run_id, tmp_path)
    found = facts(home.store, run_id)
    assert found == {
        "best": (7.5, 8.5, 1.5),
        "curve": [7.5],
        "clips": [(20, "0", "clips/1.flac")],
        "events": ("warning", "over-fitting", "it rises"),
    }
    assert items_of(store) == [(20, "si_sdr", "[7.0, null, 8.0]", "key")]


def test_what_was_stored_before_the_kill_is_not_stored_twice(home, store, run_id, tmp_path):
    """Killed between the commit and the moment at which the journal is emptied."""
    sink = StoreSink(store.path, run_id, folder=tmp_path)
    sink._journal.clear = lambda: None
    for event in (STARTED, EVALUATION, CLIPS, NOTICE):
        sink.on_event(event)
    sink.close()
    before, items = facts(home.store, run_id), items_of(store)
    assert (tmp_path / "points.journal").stat().st_size > 0
    again(store, run_id, tmp_path)
    assert (facts(home.store, run_id), items_of(store)) == (before, items)
    assert len(items) == 1


def test_rows_of_checkpoints_are_what_is_on_disk(home, store, run_id, tmp_path):
    folder = tmp_path / "checkpoints"
    for name in ("last-000020", "best-si_sdr", "last-000010.broken"):
        (folder / name).mkdir(parents=True)
        values = {
            "kind": name.partition("-0")[0], "counters": {"updates": 20}, "metrics": {"si_sdr": 7.5},
            "files": {"model.safetensors": {"size_bytes": 9, "sha256": "0"}}, "created_at": 5.0,
        }  # fmt: skip
        (folder / name / MANIFEST).write_text(json.dumps(values))
    store.add_checkpoint(
        run_id, "last", path=str(folder / "last-000010"), updates=10, metrics={}, size_bytes=1
    )
    StoreSink(store.path, run_id, folder=tmp_path).close()
    with StoreReader(home.store) as reader:
        rows = [(one.kind, one.updates, one.size_bytes) for one in reader.checkpoints(run_id)]
    assert sorted(rows) == [("best-si_sdr", 20, 9), ("last", 20, 9)]


def test_a_new_store_gives_no_id_whose_folder_exists(home, make_config):
    """The store was moved away, and run 1 took over the folder of the old run 1."""
    home.run_folder(7).mkdir(parents=True)
    assert submit.enqueue(home, make_config()) == 8
    home.run_folder(30).mkdir(parents=True)
    (home.root / "runs" / "notes").mkdir()
    assert submit.enqueue(home, make_config()) == 31
