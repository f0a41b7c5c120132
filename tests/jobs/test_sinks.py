"""What the sinks make of a run's events."""

from __future__ import annotations

import io
import math
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from engine.config.counters import Counters
from engine.events import (
    CheckpointSaved,
    ClipFile,
    ClipsWritten,
    Evaluated,
    Noticed,
    PointsRecorded,
    RunEnded,
    RunStarted,
    StageProgressed,
)
from jobs.sinks.journal import Block, Journal
from jobs.sinks.lines import LogSink
from jobs.sinks.pump import Pump
from jobs.sinks.store import StoreSink
from jobs.sinks.wandb import NoWandb, WandbSink, open_wandb
from jobs.store.writer import StoreWriter


def counters(updates: int) -> Counters:
    """Return counters of one-item updates, eight an epoch."""
    return Counters(
        updates, updates, items=updates, audio_seconds=0.5 * updates, epochs=updates / 8
    )


def points(first: int, last: int) -> PointsRecorded:
    """Return points whose loss is the update."""
    updates = np.arange(first, last + 1)
    series = {"loss": updates.astype(float), "lr": np.full(len(updates), 0.5)}
    return PointsRecorded(updates, series, units={"loss": "dB"}, counters=counters(last))


def started(resumed_from: int = 0) -> RunStarted:
    """Return the start of a run of 100 updates."""
    return RunStarted(
        counters(resumed_from),
        100,
        resumed_from=resumed_from,
        device="cpu",
        num_parameters=3_000_000,
        num_train_items=8,
        num_valid_items=2,
    )


def evaluated(update: int, si_sdr: float) -> Evaluated:
    """Return an evaluation."""
    metrics = {"si_sdr": si_sdr, "input_si_sdr": 2.5}
    items = {"si_sdr": np.array([si_sdr, np.nan])}
    return Evaluated(
        counters(update),
        metrics,
        units={"si_sdr": "dB"},
        duration_s=1.25,
        num_items=10,
        num_excluded=3,
        items=items,
        items_key="two items",
    )


@pytest.fixture
def run_id(store: StoreWriter) -> int:
    """A run that a sink may write to."""
    return store.insert_run({"name": "run", "config": "{}", "fingerprint": "", "seed": 0})


@pytest.fixture
def open_sink(home, run_id) -> Callable[[], StoreSink]:
    """Return a function that opens a store sink for the run."""
    folder = home.run_folder(run_id)
    folder.mkdir()
    return lambda: StoreSink(home.store, run_id, folder=folder)


def test_events_become_rows(open_sink, reader, run_id, home):
    sink = open_sink()
    kept = home.run_folder(run_id) / "last-000020"
    kept.mkdir()
    for event in (
        started(),
        points(1, 10),
        evaluated(10, 4.0),
        points(11, 20),
        evaluated(20, 3.0),
        CheckpointSaved(
            "last", str(kept), counters=counters(20), metrics={"si_sdr": 3.0}, size_bytes=77
        ),
        Noticed("warning", "skipped", message="2 updates were skipped"),
        RunEnded("stopped", counters(20), reason="asked"),
    ):
        sink.on_event(event)
    sink.close()

    run = reader.run(run_id)
    assert (run.updates, run.total_updates, run.items, run.audio_seconds) == (20, 100, 20, 10.0)
    assert run.epochs == 2.5
    assert (run.best, run.best_ema, run.input_score) == (4.0, None, 2.5)
    assert run.heartbeat_at is not None
    assert reader.curve(run_id, "loss").last == [float(update) for update in range(1, 21)]
    assert reader.curve(run_id, "loss").unit == "dB"
    assert reader.curve(run_id, "si_sdr").last == [4.0, 3.0]
    assert reader.item_results(run_id, 20, metric="si_sdr") == [3.0, None]
    first, second = reader.evaluations(run_id)
    assert (first.updates, second.updates, second.items_key) == (10, 20, "two items")
    assert 0 <= first.train_seconds <= second.train_seconds <= run.train_seconds
    assert [saved.size_bytes for saved in reader.checkpoints(run_id)] == [77]
    assert [event.message for event in reader.events(run_id)] == ["2 updates were skipped"]


def test_a_stage_is_the_message_of_a_run_until_training_starts(store, open_sink, reader, run_id):
    store.update_run(run_id, attempts=2)
    sink = open_sink()
    sink.on_event(StageProgressed("clusters", 2, total=5))
    sink.close()
    assert (reader.run(run_id).message, reader.run(run_id).attempts) == ("stage clusters 40 %", 2)

    sink = open_sink()
    sink.on_event(StageProgressed("clusters", 3, total=5, saved=True))
    sink.close()
    assert (reader.run(run_id).message, reader.run(run_id).attempts) == ("stage clusters 60 %", 0)

    sink = open_sink()
    sink.on_event(started())
    sink.close()
    assert reader.run(run_id).message == ""


def test_the_log_says_how_far_a_stage_is_and_what_training_measures():
    stream = io.StringIO()
    sink = LogSink(stream)
    for event in (
        StageProgressed("clusters", 0, total=5, number=1, count=2),
        StageProgressed("clusters", 1, total=5, number=1, count=2),
        StageProgressed("clusters", 5, total=5, number=1, count=2),
        StageProgressed("clusters", 5, total=5, number=1, count=2, saved=True),
        RunStarted(counters(0), 10, resumed_from=0, device="cpu", num_parameters=3_000_000, num_train_items=8, num_valid_items=2),
        PointsRecorded(
            np.array([10]),
            {"loss": np.array([0.5]), "skipped": np.array([0.0]), "accuracy": np.array([0.25])},
            units={}, counters=counters(10),
        ),
    ):  # fmt: skip
        sink.on_event(event)
    lines = [line.partition(" ")[2] for line in stream.getvalue().splitlines()]
    assert lines[:2] == [
        "stage clusters 0 % (1 of 2): 0 of 5 steps",
        "stage clusters 100 % (1 of 2): 5 of 5 steps",
    ]
    assert lines[3] == "update 10/10: loss 0.5, accuracy 0.25"


def test_the_best_of_an_error_rate_is_the_lowest(store, open_sink, reader, run_id):
    store.update_run(run_id, metric="wer")
    sink = open_sink()
    sink.on_event(started())
    for update, wer in ((10, 0.5), (20, 0.25), (30, 0.75), (40, math.nan)):
        metrics = {"wer": wer, "wer_ema": wer / 2, "si_sdr": 99.0, "val_loss": 1.0}
        sink.on_event(
            Evaluated(
                counters(update), metrics, units={}, duration_s=0.1, num_items=2, num_excluded=0
            )
        )
    sink.close()

    run = reader.run(run_id)
    assert (run.best, run.best_ema, run.input_score) == (0.25, 0.125, None)
    assert (run.top, run.gain) == (0.125, None)


def test_rates_are_told_in_percent():
    stream = io.StringIO()
    metrics = {"val_loss": 1.5, "wer": 0.0312, "cer_ema": 1.0}
    LogSink(stream).on_event(
        Evaluated(counters(3), metrics, units={}, duration_s=0.1, num_items=2, num_excluded=0)
    )
    assert stream.getvalue().strip().endswith("val_loss 1.5, wer 3.12%, cer_ema 100.00%")


def test_clips_are_noted_once_however_often_they_are_told(open_sink, reader, run_id):
    sink = open_sink()
    sink.on_event(started())
    for updates in (1, 10):
        once = ClipFile(0, 0, kind="input", path="clips/input.wav", spectrogram="clips/input.png")
        new = ClipFile(updates, 0, kind="estimate", path=f"clips/{updates}.wav", spectrogram="")
        sink.on_event(ClipsWritten(counters(updates), (once, new)))
    sink.close()

    assert [(found.updates, found.kind, found.path) for found in reader.clips(run_id)] == [
        (0, "input", "clips/input.wav"),
        (1, "estimate", "clips/1.wav"),
        (10, "estimate", "clips/10.wav"),
    ]


def test_the_best_of_a_resumed_run_is_that_of_the_evaluations_it_keeps(open_sink, reader, run_id):
    sink = open_sink()
    for event in (
        started(),
        points(1, 30),
        evaluated(10, 4.0),
        evaluated(20, 3.0),
        evaluated(30, 9.0),
    ):
        sink.on_event(event)
    sink.close()
    assert reader.run(run_id).best == 9.0
    for resumed_from, best in ((20, 4.0), (10, 4.0), (5, None)):
        sink = open_sink()
        sink.on_event(started(resumed_from))
        sink.close()
        run = reader.run(run_id)
        assert (run.best, run.best_ema, run.input_score) == (best, None, 2.5)


def test_a_resumed_run_replaces_what_came_after_its_checkpoint(open_sink, reader, run_id):
    for begin, end in ((0, 30), (20, 40)):
        sink = open_sink()
        sink.on_event(started(begin))
        sink.on_event(points(begin + 1, end))
        sink.close()

    curve = reader.curve(run_id, "loss")
    assert curve.updates == list(range(1, 41))
    assert curve.last == [float(update) for update in range(1, 41)]


def test_points_of_a_killed_process_are_recovered_from_its_journal(open_sink, reader, run_id, home):
    journal = Journal(home.run_folder(run_id) / "points.journal")
    event = points(1, 20)
    journal.append(Block(event.updates, event.series, units=event.units))
    journal.close()

    sink = open_sink()
    sink.on_event(started(20))
    sink.on_event(points(21, 30))
    sink.close()

    assert reader.curve(run_id, "loss").updates == list(range(1, 31))


def test_the_journal_is_emptied_once_the_store_has_the_points(open_sink, run_id, home):
    sink = open_sink()
    sink.on_event(started())
    sink.on_event(points(1, 20))
    sink.close()

    assert (home.run_folder(run_id) / "points.journal").stat().st_size == 0


def test_a_journal_cut_off_in_a_block_keeps_those_before(tmp_path):
    path = tmp_path / "journal"
    journal = Journal(path)
    for first in (1, 11):
        event = points(first, first + 9)
        journal.append(Block(event.updates, event.series, units=event.units))
    whole = path.read_bytes()

    for missing in (1, 100, len(whole) // 2 - 1):
        path.write_bytes(whole[:-missing])
        (block,) = journal.blocks()
        assert block.updates.tolist() == list(range(1, 11))
        assert block.series["loss"].tolist() == [float(update) for update in range(1, 11)]
        assert block.units == {"loss": "dB"}
    journal.close()


def test_a_locked_store_neither_blocks_training_nor_loses_points(open_sink, reader, run_id, home):
    sink = open_sink()
    locker = sqlite3.connect(home.store, isolation_level=None)
    locker.execute("BEGIN IMMEDIATE")
    sink.on_event(started())
    for first in range(1, 1000, 10):
        sink.on_event(points(first, first + 9))
    assert reader.curve(run_id, "loss").updates == []
    locker.execute("ROLLBACK")
    locker.close()
    sink.close()

    assert reader.curve(run_id, "loss").updates == list(range(1, 1001))


def test_a_failed_batch_is_tried_again_in_order():
    taken: list[int] = []
    failed = threading.Event()

    def handle(batch):
        if batch and not failed.is_set():
            failed.set()
            raise OSError("not now")
        taken.extend(event.updates[0] for _, event in batch)

    pump = Pump(handle, name="test", idle_s=0.05)
    for update in range(1, 4):
        pump.put(points(update, update))
        failed.wait(5)

    assert pump.close()
    assert taken == [1, 2, 3]


def test_points_are_dropped_and_counted_when_nobody_takes_them():
    free = threading.Event()
    pump = Pump(lambda batch: free.wait(30) and None, name="test")
    for update in range(1, 2103):
        pump.put(points(update, update))
    pump.put(Noticed("info", "kept", message="kept"))
    free.set()

    assert pump.take_dropped() == 102
    assert pump.close()


def test_the_log_reads_as_a_story():
    stream = io.StringIO()
    sink = LogSink(stream)
    for event in (
        started(40),
        points(41, 50),
        points(51, 60),
        evaluated(60, 4.0),
        CheckpointSaved(
            "best-si_sdr", "x", counters=counters(60), metrics={}, size_bytes=4_000_000
        ),
        CheckpointSaved(
            "best-val_loss", "x", counters=counters(60), metrics={}, size_bytes=4_000_000
        ),
        CheckpointSaved(
            "best-si_sdr", "x", counters=counters(60), metrics={}, size_bytes=4_000_000
        ),
        CheckpointSaved("last", "x", counters=counters(60), metrics={}, size_bytes=12_300_000),
        Noticed("warning", "skipped", message="2 updates were skipped"),
        points(61, 100),
        RunEnded("finished", counters(100), reason="all updates completed"),
    ):
        sink.on_event(event)

    lines = [line.split(" ", 1)[1] for line in stream.getvalue().splitlines()]
    assert lines == [
        "resumed after update 40 on cpu: 3.00 M parameters, 8 training and 2 validation items, 100 updates",
        "update 50/100: loss 50 dB, lr 0.5",
        "update 60: evaluated 10 items, 3 excluded (silent, or nothing to restore) in 1.2 s: si_sdr 4 dB",
        "saved the best checkpoint by si_sdr, val_loss",
        "update 60: saved last (12.3 MB)",
        "warning: 2 updates were skipped",
        "update 100/100: loss 100 dB, lr 0.5",
        "finished at update 100: all updates completed",
    ]


def test_wandb_is_off_by_default(make_config, tmp_path):
    sink = open_wandb(make_config(), name="run", key="abc-1", folder=tmp_path)

    assert isinstance(sink, NoWandb)
    sink.on_event(started())
    sink.close()
    assert not (tmp_path / "wandb").exists()


@pytest.mark.slow
def test_wandb_offline_writes_into_the_run_folder(make_config, tmp_path):
    config = make_config(logging={"wandb": "offline", "wandb_project": "tests"})
    sink = open_wandb(config, name="run", key="abc-1", folder=tmp_path)
    assert isinstance(sink, WandbSink)
    sink.on_event(started())
    sink.on_event(points(1, 10))
    sink.on_event(evaluated(10, 4.25))
    sink.close()

    (file,) = Path(tmp_path / "wandb").glob("offline-run-*/*.wandb")
    content = file.read_bytes()
    for expected in (b"abc-1", b"train/loss", b"5.5", b"valid/si_sdr", b"4.25"):
        assert expected in content


def test_bad_items_are_told_from_absent_ones(open_sink, reader, run_id):
    """The list `non_finite` names them; the worst value of the metric, or null, stands in theirs."""
    flags = np.array([0.0, 1.0, 0.0])
    bad = Evaluated(
        counters(7), {"si_sdr": -49.0, "val_loss": np.inf}, units={}, duration_s=0.1, num_items=3, num_excluded=1,
        items={"si_sdr": np.array([2.0, -100.0, np.nan]), "val_loss": np.array([0.5, np.inf, 0.5]), "non_finite": flags},
    )  # fmt: skip
    stream = io.StringIO()
    LogSink(stream).on_event(bad)
    assert (
        "evaluated 3 items, 1 excluded (silent, or nothing to restore), 1 with non-finite output in"
        in stream.getvalue()
    )
    sink = open_sink()
    for event in (started(), bad):
        sink.on_event(event)
    sink.close()
    found = {name: reader.item_results(run_id, 7, metric=name) for name in bad.items}
    assert found == {
        "si_sdr": [2.0, -100.0, None], "val_loss": [0.5, None, 0.5], "non_finite": [0.0, 1.0, 0.0],
    }  # fmt: skip


def test_speed_and_time_left_count_training_alone():
    """Ten updates a second, an evaluation of half a minute after each hundred: the speed stays that of updates."""
    from jobs.sinks.store import Progress

    progress = Progress()
    progress.start(1_000.0, Counters())
    now, seen = 1_000.0, []
    for hundred in range(1, 6):
        now += 10.0
        progress.advance(now, Counters(100 * hundred))
        seen.append(progress.columns()["speed"])
        now += 30.0
        progress.advance(now, Counters(100 * hundred), apart_s=30.0)
        seen.append(progress.columns()["speed"])
    assert seen == [pytest.approx(10.0)] * 10
    assert progress.columns()["train_seconds"] == pytest.approx(200.0)
