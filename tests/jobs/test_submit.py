"""What a person asks of runs, and what the store and the queue hold afterwards."""

from __future__ import annotations

import json
import os
import shutil
import stat
import time

import pytest

from engine.batching.open_plan import PlanError
from engine.config.errors import ConfigError, DataError
from engine.config.loading import load_config
from jobs import submit
from jobs.home import Home
from jobs.machine.processes import own_token
from jobs.queue import RunQueue
from jobs.store.errors import StateError, StoreError, UnknownRun
from jobs.store.reader import StoreReader
from jobs.store.writer import StoreWriter


def names(home: Home) -> list[str]:
    """Names of the runs in the reader's order."""
    with StoreReader(home.store) as reader:
        return [run.name for run in reader.runs()]


def start(home: Home, run_id: int) -> None:
    """Mark a run as running in this living process."""
    with StoreWriter(home.store) as store:
        store.move(run_id, "running", ("queued",), pid=os.getpid(), pid_token=own_token())


def test_enqueue_stores_the_config_and_adds_a_ticket(home, make_config):
    config = make_config(schedule={"length": "320 items"}, seed=5)

    run_id = submit.enqueue(home, config, preset="bandwidth/small", experiment="e", variant="v")

    with StoreReader(home.store) as reader:
        run = reader.run(run_id)
        assert (run.name, run.preset, run.state, run.seed) == (
            "small-1",
            "bandwidth/small",
            "queued",
            5,
        )
        assert (run.experiment, run.variant, run.total_updates) == ("e", "v", 20)
        assert run.fingerprint == config.fingerprint
        assert reader.config(run_id) == config.to_dict()
    assert RunQueue(home.queue).size() == 1


def test_the_length_of_a_run_in_epochs_is_read_from_its_data(home, make_config):
    """One file of 0.1 s is one item: an update of 16 is 16 passes over it."""
    config = make_config(schedule={"length": "160 epochs"}, batch={"items": 16})

    run_id = submit.enqueue(home, config)

    with StoreReader(home.store) as reader:
        assert reader.run(run_id).total_updates == 10


def test_files_are_private(home, make_config):
    submit.enqueue(home, make_config())

    for file in home.root.rglob("*"):
        assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0, file


def test_names_count_up_and_must_be_free(home, make_config):
    for name in (None, None, "small-7", None):
        submit.enqueue(home, make_config(), preset="x/small", name=name)

    assert names(home) == ["small-1", "small-2", "small-7", "small-8"]
    with pytest.raises(StoreError, match="'small-2' already exists"):
        submit.enqueue(home, make_config(), name="small-2")
    for bad in ("12", "", "a/b", "-x", "a" * 81):
        with pytest.raises(StoreError, match="is not a valid run name"):
            submit.enqueue(home, make_config(), name=bad)


def test_data_paths_become_absolute(home, make_config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = {"kind": "bandwidth", "train": "data/train", "valid": "data/valid"}
    config = make_config(data=data)

    run_id = submit.enqueue(home, config)

    with StoreReader(home.store) as reader:
        assert reader.config(run_id)["data"]["train"] == str(tmp_path / "data" / "train")


def test_missing_folders_are_all_named(home, make_config, tmp_path):
    config = make_config()
    shutil.rmtree(config.data.train)
    shutil.rmtree(config.data.valid)

    with pytest.raises(DataError) as caught:
        submit.enqueue(home, config)

    assert [problem.key for problem in caught.value.problems] == ["data.train", "data.valid"]
    assert not home.store.exists()


def test_stop_and_resume_a_queued_run(home, make_config):
    first, second = (submit.enqueue(home, make_config(), name=name) for name in "ab")

    submit.stop(home, first)
    with StoreReader(home.store) as reader:
        assert reader.run(first).state == "stopped"
    with pytest.raises(StateError, match="can't be stopped: it is stopped"):
        submit.stop(home, first)

    submit.resume(home, first)
    assert names(home) == ["b", "a"]
    with pytest.raises(StateError, match="can't be resumed: it is queued"):
        submit.resume(home, second)


def test_a_running_run_is_asked_to_stop(home, make_config):
    run_id = submit.enqueue(home, make_config())
    start(home, run_id)

    submit.stop(home, run_id)

    with StoreReader(home.store) as reader:
        run = reader.run(run_id)
    assert (run.state, run.stopping) == ("running", True)
    for refused in (submit.resume, submit.remove):
        with pytest.raises(StateError, match="stop it first"):
            refused(home, run_id)


def test_a_run_whose_process_is_gone_stops_at_once(home, make_config):
    run_id = submit.enqueue(home, make_config())
    with StoreWriter(home.store) as store:
        store.move(run_id, "running", ("queued",), pid=os.getpid(), pid_token="another time")

    submit.stop(home, run_id)

    with StoreReader(home.store) as reader:
        assert reader.run(run_id).state == "stopped"


def test_remove_takes_the_files_along(home, make_config):
    for keep in (False, True):
        run_id = submit.enqueue(home, make_config())
        folder = home.run_folder(run_id)
        folder.mkdir()
        submit.remove(home, run_id, keep_files=keep)
        assert folder.exists() == keep
    assert names(home) == []
    with pytest.raises(UnknownRun, match="no run 1"):
        submit.remove(home, 1)


@pytest.mark.parametrize(
    ("to", "order"),
    [
        ("up", "acbd"),
        ("down", "abdc"),
        ("top", "cabd"),
        ("bottom", "abdc"),
        (1, "cabd"),
        (99, "abdc"),
    ],
)
def test_move_reorders_the_queue(home, make_config, to, order):
    ids = {name: submit.enqueue(home, make_config(), name=name) for name in "abcd"}

    submit.move(home, ids["c"], to=to)

    assert "".join(names(home)) == order
    start(home, ids["a"])
    with pytest.raises(StateError, match="only queued runs can be moved"):
        submit.move(home, ids["a"], to="up")


def test_enqueue_takes_little_cpu(home, make_config):
    config = make_config()
    submit.enqueue(home, config)

    start_s = time.process_time()
    submit.enqueue(home, config)

    assert time.process_time() - start_s < 0.05


def test_a_run_on_speech_is_as_long_as_its_utterances_say(home, tmp_path, write_tone):
    """Utterances of 0.05 and 0.1 s: two of them, an update, last 0.15 s."""
    write_tone(tmp_path / "tone.wav")
    rows = [{"path": "tone.wav", "duration": s, "text": "la"} for s in (0.05, 0.1)]
    manifest = tmp_path / "m.jsonl"
    manifest.write_text("\n".join(map(json.dumps, rows)))
    data = {
        "kind": "speech", "train": str(manifest), "valid": str(manifest), "rate_hz": 48_000,
        "min_s": 0.05,
    }  # fmt: skip

    def enqueue(length: str, **batch) -> int:
        sections = {"model": {"kind": "conformer_rnnt"}, "loss": {"kind": "rnnt"}, "batch": batch}
        config = load_config({"data": data, "schedule": {"length": length}} | sections)
        return submit.enqueue(home, config)

    by_seconds, by_items = enqueue("3 audio_seconds", items=2), enqueue("7 updates", items=2)
    with StoreReader(home.store) as reader:
        assert [reader.run(run).total_updates for run in (by_seconds, by_items)] == [20, 7]
        assert reader.run(by_items).metric == "wer"
    with pytest.raises(PlanError, match=r"batch\.seconds = 0\.1 is too small"):
        enqueue("3 updates", seconds=0.1)
    assert len(names(home)) == 2


def test_metrics_whose_package_is_missing_are_refused_before_anything_is_queued(
    home, make_config, monkeypatch
):
    config = make_config(validation={"full_files": True, "metrics": ["stoi", "bss_sdr"]})
    monkeypatch.setattr("engine.metrics.measures.find_spec", lambda name: None)
    with pytest.raises(ConfigError) as error:
        submit.enqueue(home, config)
    assert str(error.value) == (
        "validation.metrics: stoi can't be measured: pystoi not installed; run pip install "
        "'sepdash[speech-metrics]', or remove it from validation.metrics"
    )
    assert not home.store.exists()
