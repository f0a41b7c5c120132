"""What earlier runs tell of the speed of a new one: only those that train alike count."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.config.loading import load_config
from engine.config.schema import RunConfig
from engine.config.span import Span
from engine.data.update_size import planned_size
from jobs.store.reader import StoreReader
from jobs.store.records import SystemRecord
from jobs.store.writer import StoreWriter
from jobs.sweeps.measured import Measured
from jobs.sweeps.timing import evaluations_of
from tests.earlier import add_earlier, evaluated_at


def speech(train: str = "/x/a.jsonl", **data: Any) -> RunConfig:
    values = {"kind": "speech", "train": train, "valid": "/x/v.jsonl", **data}
    return load_config(
        {"data": values, "model": {"kind": "conformer_rnnt"}, "loss": {"kind": "rnnt"}}
    )


def segments(train: str = "/x/a", **data: Any) -> RunConfig:
    return load_config({"data": {"kind": "bandwidth", "train": train, "valid": "/x/v", **data}})


@pytest.mark.parametrize(
    ("first", "second", "known"),
    [
        (segments(), segments("b"), True),
        (segments(), segments(segment_s=1.0), False),
        (speech(), speech(valid="/x/w.jsonl"), True),
        (speech(), speech("/x/b.jsonl"), False),
        (speech(), speech(max_s=5.0), False),
        (speech(), speech(num_mels=40), False),
        (speech(), speech(vocab_size=64), False),
    ],
)
def test_time_of_an_update_is_known_from_runs_that_train_alike(
    store, reader, first: RunConfig, second: RunConfig, known: bool
) -> None:
    run = {"name": "run", "config": first.to_json(), "fingerprint": "", "seed": 0}
    store.update_run(store.insert_run(run), updates=10, train_seconds=5.0)
    measured = Measured.of(reader)
    assert measured.seconds_per_update(first) == 0.5
    assert measured.seconds_per_update(second) == (0.5 if known else None)


SPANS = st.one_of(
    st.integers(1, 40).map(lambda n: Span(n, "updates")),
    st.integers(1, 200).map(lambda n: Span(n, "items")),
    st.floats(0.5, 80).map(lambda x: Span(x, "audio_seconds")),
)


@given(
    every=SPANS, full_every=st.one_of(st.none(), SPANS), full_files=st.booleans(),
    at_start=st.booleans(), begun_with_weights=st.booleans(), total=st.integers(1, 120), done=st.integers(0, 120),
)  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_evaluations_are_counted_as_the_trainer_makes_them(
    every, full_every, full_files, at_start, begun_with_weights, total, done
) -> None:
    """Against the rule of the loop, update by update."""
    validation = {
        "every": str(every), "full_files": full_files, "at_start": at_start,
        "full_every": str(full_every) if full_files and full_every is not None else None,
    }  # fmt: skip
    values = segments().to_dict() | {"batch": {"items": 7}}
    config = load_config(
        values
        | {
            "validation": validation,
            "init_from": "./weights" if begun_with_weights else None,
            "schedule": {"length": f"{total} updates"},
        }
    )
    done = min(done, total)
    expected = [
        whole for update, whole in evaluated_at(config, total).items() if update > done or not done
    ]
    found = evaluations_of(config, planned_size(config), total=total, done=done)
    assert (found.excerpts, found.whole) == (expected.count(False), expected.count(True))


def lasting(updates: int, **sections: Any) -> RunConfig:
    return load_config(
        segments().to_dict() | {"schedule": {"length": f"{updates} updates"}} | sections
    )


def expected_s(reader, config: RunConfig, **words: Any) -> float | None:
    size = planned_size(config)
    total = round(size.updates_in(config.schedule.length))
    found = Measured.of(reader).duration(config, size, total=total, **words)
    return None if found is None else found.expected_s


def test_each_part_of_the_time_is_counted_as_often_as_it_happens(store, reader) -> None:
    """A short run with many evaluations tells the time of a long one with few, by hand."""
    add_earlier(
        store, lasting(40, validation={"every": "10 updates"}),
        update_s=0.5, evaluation_s=2.0, startup_s=6.0, warmup_s=3.0,
    )  # fmt: skip
    long = lasting(1000, validation={"every": "500 updates"})
    # Evaluations after updates 1, 500 and 1000. Train seconds over updates of the short run
    # would say 1000 * (40 * 0.5 + 3 + 5 * 2) / 40 = 825 s.
    assert expected_s(reader, long) == pytest.approx(6 + 3 + 1000 * 0.5 + 3 * 2)
    # One that is running has 600 updates and an evaluation to go.
    assert expected_s(reader, long, done=400, starts=False) == pytest.approx(300 + 2 * 2)
    assert expected_s(reader, long, done=500, starts=False) == pytest.approx(250 + 2)
    assert expected_s(reader, long, done=1000, starts=False) == 0


def test_whole_files_have_a_time_of_their_own(store, reader) -> None:
    validation = {"every": "10 updates", "full_files": True, "full_every": "20 updates"}
    add_earlier(store, lasting(40, validation=validation))
    # After 1 and 50: excerpts; after 100 and 200: whole files; after 150: excerpts.
    rare = lasting(
        200, validation=validation | {"every": "50 updates", "full_every": "100 updates"}
    )
    assert expected_s(reader, rare) == pytest.approx(6 + 3 + 200 * 0.5 + 3 * 2 + 2 * 10)


def test_what_was_never_measured_is_unknown(store, reader) -> None:
    add_earlier(store, lasting(40))
    assert expected_s(reader, lasting(50)) is not None
    for other in (
        {"batch": {"items": 3}},
        {"validation": {"full_files": True}},
        {"validation": {"max_items": 3}},
        {"data": segments("/elsewhere").to_dict()["data"]},
        {"data": segments(valid="/elsewhere").to_dict()["data"]},
    ):
        assert expected_s(reader, lasting(50, **other)) is None, other


def test_slower_runs_show_in_the_margin_and_longer_ones_in_the_mean(store, reader) -> None:
    add_earlier(store, lasting(100), name="fast", update_s=1.0, startup_s=4.0, warmup_s=0.0)
    add_earlier(store, lasting(300), name="slow", update_s=2.0, startup_s=8.0, warmup_s=0.0)
    config = lasting(1000)
    found = Measured.of(reader).duration(config, planned_size(config), total=1000)
    assert found is not None
    evaluations = 2 * 2  # after 1 and 1000
    assert found.expected_s == pytest.approx(6 + evaluations + 1000 * (100 * 1 + 300 * 2) / 400)
    assert found.slowest_s == pytest.approx(8 + evaluations + 1000 * 2)


def test_the_time_of_an_interrupted_run_is_not_its_start(store, reader, home) -> None:
    run = add_earlier(store, lasting(40))
    home.run_folder(run).mkdir(parents=True)
    log = home.run_folder(run) / "log.txt"
    begun = "21:14:33 run earlier (id 1), config c970081e31d3, process 9152\n"
    log.write_text(begun)
    assert expected_s(reader, lasting(40)) is not None
    log.write_text(begun * 2)
    assert expected_s(reader, lasting(40)) is None
    assert expected_s(reader, lasting(40), done=10, starts=False) is not None


def test_times_of_another_gpu_do_not_count(store, reader) -> None:
    for name, gpu in (("old", "Slow 1"), ("newer", "Fast 2"), ("c", None), ("unknown", "")):
        items = {"batch": {"items": len(name)}}
        run = add_earlier(store, lasting(40, **items), name=name)
        if name != "unknown":
            sample = SystemRecord(1.0, run, 1.0, ram_bytes=1, ram_total_bytes=2, process_ram_bytes=None,
                                  gpu_percent=None, vram_bytes=None, vram_total_bytes=None, gpu_name=gpu)  # fmt: skip
            store.add_system(sample)
    for gpus, known in (({"Fast 2"}, "newer"), ({""}, "c"), ({"Fast 2", "Slow 1"}, "old newer")):
        measured = Measured.of(reader, gpus=gpus)
        found = [n for n in ("old", "newer", "c", "unknown")
                 if measured.seconds_per_update(lasting(40, batch={"items": len(n)}))]  # fmt: skip
        assert found == [*known.split(), "unknown"]


def test_the_pause_between_runs_counts_where_a_worker_went_on(store, reader) -> None:
    """By hand: pauses of 2, 3 and 4 s; then none was queued; then no worker was there."""
    times = [(0, 0, 10), (0, 12, 20), (0, 23, 30), (0, 34, 40), (45, 46, 50), (0, 5000, 5010)]
    for number, (created, started, ended) in enumerate(times):
        row = {
            "name": f"run{number}",
            "config": lasting(40).to_json(),
            "fingerprint": "",
            "seed": 0,
        }
        run = store.insert_run(row | {"created_at": created})
        store.move(run, "finished", ("queued",), started_at=started, ended_at=ended)
    assert Measured.of(reader).turnaround_s == 3.0
    add_earlier(store, lasting(40))
    with_pause = expected_s(reader, lasting(1000))
    assert with_pause == pytest.approx(3 + 6 + 3 + 1000 * 0.5 + 2 * 2)
    assert expected_s(reader, lasting(1000), done=900, starts=False) == pytest.approx(50 + 2)


def test_slow_moments_of_a_long_run_count_in_full(store, reader) -> None:
    """Half of the updates take 0.1 s, half 0.9 s: 0.5 s, where the mean rate says 0.18 s."""
    config = lasting(20_000, validation={"every": "10000 updates"})
    add_earlier(store, config, name="long", update_s=0.5, warmup_s=0.0)
    with store.transaction() as connection:
        connection.execute(
            "UPDATE points SET value = iif(step % 2, 1 / 0.1, 1 / 0.9) WHERE series IN"
            " (SELECT id FROM series WHERE name = 'updates_per_s')"
        )
    found = Measured.of(reader).update_time(config)
    assert found.mean == pytest.approx(0.5, rel=1e-3)
    assert found.slowest == pytest.approx(0.5, rel=1e-3)


def test_a_run_made_to_be_timed_counts_where_no_other_run_tells(store, reader, tmp_path) -> None:
    short, other = lasting(40), lasting(40, batch={"items": 3})
    with (
        StoreWriter(tmp_path / "timing.db") as timing,
        StoreReader(tmp_path / "timing.db") as timed,
    ):
        for name, config in (("short", short), ("other", other)):
            add_earlier(timing, config, name=name, update_s=9.0)
        add_earlier(store, lasting(200), update_s=0.5)
        measured = Measured.of(reader, timed=timed)
    assert measured.update_time(short).mean == pytest.approx(0.5)
    assert measured.update_time(other).mean == pytest.approx(9.0)
    # The mean speed of a short run is mostly its evaluations.
    assert measured.seconds_per_update(other) == pytest.approx(9.0)
    assert measured.seconds_per_update(short) == pytest.approx((200 * 0.5 + 3 + 2 * 2) / 200)
