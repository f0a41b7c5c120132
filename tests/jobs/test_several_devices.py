"""Runs that ask for several devices: leases, environment, torchrun, and no process left behind."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

import jobs.machine.devices
from engine.config.errors import ConfigError
from engine.data.synthetic import write_dataset
from jobs import submit
from jobs.home import Home
from jobs.machine.devices import DeviceError, child_environment, devices_taken, ranks_environment
from jobs.machine.lease import DeviceLease, LeaseError
from jobs.store.errors import StateError
from jobs.store.reader import StoreReader
from jobs.store.writer import StoreWriter
from jobs.worker.serve import serve
from jobs.worker.supervisor import Child, last_line
from tests.waiting import until

LAUNCHER = (sys.executable, "-P", str(Path(__file__).parent / "fakes" / "launcher.py"))
FAKE = (sys.executable, "-P", str(Path(__file__).parent / "fakes" / "training.py"))
PLAIN, DIES_ONCE, TORN_ONCE = 0, 5, 6
DEADLINE_S = 120.0


@pytest.fixture
def three_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs.machine.devices, "num_gpus", lambda: 3)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_free_gpus_are_taken_beside_the_worker_s_own_and_given_back(home, three_gpus):
    with DeviceLease(home.locks, "cuda:1"):
        with devices_taken("cuda:1", 2, locks=home.locks) as devices:
            assert devices == ["cuda:1", "cuda:0"]
            with pytest.raises(LeaseError), DeviceLease(home.locks, "cuda:0"):
                pass
            assert child_environment(*devices)["CUDA_VISIBLE_DEVICES"] == "1,0"
        with DeviceLease(home.locks, "cuda:0"):
            with devices_taken("cuda:1", 2, locks=home.locks) as devices:
                assert devices == ["cuda:1", "cuda:2"]
            with (
                pytest.raises(
                    DeviceError, match=r"devices = 3, but other programs are using cuda:0;"
                ),
                devices_taken("cuda:1", 3, locks=home.locks),
            ):
                pass
        with DeviceLease(home.locks, "cuda:2"):
            pass


def test_more_gpus_than_there_are_is_a_clear_error(home, three_gpus):
    with (
        pytest.raises(DeviceError, match=r"precision\.devices = 4, but this machine has 3 GPU"),
        devices_taken("cuda:0", 4, locks=home.locks),
    ):
        pass


def test_processes_share_the_cores_and_stay_on_this_machine(monkeypatch):
    monkeypatch.setenv("RANK", "7")
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 9)
    environment = ranks_environment(["cpu"], 4)
    assert environment["OMP_NUM_THREADS"] == "2"
    assert environment["CUDA_VISIBLE_DEVICES"] == ""
    assert "RANK" not in environment
    assert environment["OMP_WAIT_POLICY"] == "PASSIVE"
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    assert ranks_environment(["cpu"], 4)["OMP_WAIT_POLICY"] == "ACTIVE"
    assert environment["GLOO_SOCKET_IFNAME"].startswith("lo")


def test_a_run_without_enough_devices_fails_with_the_reason(home, make_config, monkeypatch):
    run_id = submit.enqueue(home, make_config(precision={"devices": 2}))
    refused = DeviceError("precision.devices = 2, but this machine has 1 GPU(s); lower it")

    @contextlib.contextmanager
    def refuse(*_: object, **__: object) -> Iterator[list[str]]:
        raise refused
        yield []

    monkeypatch.setattr("jobs.worker.supervisor.devices_taken", refuse)
    serve(home, device="cpu", drain=True, echo=str, child=Child(FAKE))
    with StoreReader(home.store) as reader:
        assert (reader.run(run_id).state, reader.run(run_id).message) == ("failed", str(refused))


def test_a_torn_update_goes_back_to_the_last_checkpoint(home, make_config):
    config = make_config(seed=TORN_ONCE, schedule={"length": "120 updates"})
    run_id = submit.enqueue(home, config)
    serve(home, device="cpu", drain=True, echo=str, child=Child(FAKE))
    with StoreReader(home.store) as reader:
        assert (reader.run(run_id).state, reader.run(run_id).updates) == ("finished", 120)
        events = {event.kind: event.message for event in reader.events(run_id)}
        assert "out of memory while updating the weights" in events["killed"]
        assert reader.curve(run_id, "loss", max_points=10**6).updates == list(range(1, 121))
    assert "resumed after update 50" in (home.run_folder(run_id) / "log.txt").read_text()


@pytest.fixture
def two_processes(home, make_config, monkeypatch) -> Callable[..., int]:
    """Return a function that enqueues a run of two processes, which a stand-in for torchrun starts."""
    monkeypatch.setattr("jobs.worker.supervisor.TORCHRUN", LAUNCHER)

    def enqueue(behaviour: int, updates: int) -> int:
        length = {"length": f"{updates} updates"}
        config = make_config(seed=behaviour, schedule=length, precision={"devices": 2})
        return submit.enqueue(home, config)

    return enqueue


def test_a_killed_process_of_several_is_a_killed_run(home, two_processes):
    run_id = two_processes(DIES_ONCE, 120)
    serve(home, device="cpu", drain=True, echo=str, child=Child(FAKE))
    with StoreReader(home.store) as reader:
        assert (reader.run(run_id).state, reader.run(run_id).updates) == ("finished", 120)
        (event,) = [event for event in reader.events(run_id) if event.kind == "killed"]
        assert event.message == (
            "its process was killed by SIGKILL; it will resume from its last checkpoint"
        )


def test_the_reason_of_an_accident_is_what_the_process_said_and_not_torchrun(tmp_path):
    log = tmp_path / "log.txt"
    said = "Traceback (most recent call last):\nRuntimeError: the codes are gone\n"
    report = (
        "W1128 11:31:33.440000 18571 torch/distributed/elastic/multiprocessing/api.py:900] Sending process 20135 "
        "closing signal SIGTERM\n"
        "E1128 11:31:33.440000 18571 torch/distributed/elastic/multiprocessing/api.py:988] failed (exitcode: 1) "
        "local_rank: 0 (pid: 20134) of binary: python\n"
        "Traceback (most recent call last):\n" + 40 * '  File "torch/distributed/run.py", line 1\n' +
        "ChildFailedError: \n====\njobs.child.runner FAILED\n----\nRoot Cause (first observed failure):\n[0]:\n"
        "  traceback : To enable traceback see: (a page)\n====\n"
    )  # fmt: skip
    log.write_text(said + report)
    assert last_line(log) == "RuntimeError: the codes are gone"
    log.write_text(said + report + "RuntimeError: and again\n" + report)
    assert last_line(log) == "RuntimeError: and again"
    log.write_text(said + report + "a later start has said this\n")
    assert last_line(log) == "a later start has said this"


def test_several_are_asked_to_stop_through_their_pipe_and_die_with_what_started_them(
    home, two_processes
):
    run_id = two_processes(PLAIN, 5_000)
    ended = threading.Event()
    worker = threading.Thread(
        target=serve, args=(home,),
        kwargs={"device": "cpu", "echo": str, "stop": ended, "child": Child(FAKE)},
    )  # fmt: skip
    worker.start()
    try:
        with StoreReader(home.store) as reader:
            until(lambda: reader.run(run_id).updates > 20, "the run trains")
            submit.stop(home, run_id)
            until(lambda: reader.run(run_id).state == "stopped", "the run stopped")
            stopped_at = reader.run(run_id).updates
            assert "killed" not in [event.kind for event in reader.events(run_id)]
            submit.resume(home, run_id)
            until(lambda: reader.run(run_id).updates > stopped_at + 20, "the run goes on")
            launcher = psutil.Process(reader.run(run_id).pid)
            (child,) = launcher.children()
            launcher.kill()
            _, left = psutil.wait_procs([child], timeout=DEADLINE_S)
            assert left == []
            submit.stop(home, run_id)
            until(lambda: reader.run(run_id).state == "stopped", "the run stopped again")
    finally:
        ended.set()
        worker.join()


def test_every_process_needs_items(make_config):
    with pytest.raises(ConfigError, match=r"devices = 4, but batch\.items = 3"):
        make_config(batch={"items": 3, "micro_batch": 1}, precision={"devices": 4})


def test_resume_with_another_number_of_processes_is_an_explicit_option(home, make_config):
    exact, capped = (
        submit.enqueue(home, make_config(batch=batch))
        for batch in ({"items": 8}, {"mode": "duration", "cap_s": 30.0})
    )
    for run_id in (exact, capped):
        submit.stop(home, run_id)
    with pytest.raises(
        StateError, match=r"it started with 1, and in batch\.mode = 'duration' data are assigned"
    ):
        submit.resume(home, capped, devices=2)
    submit.resume(home, exact, devices=2)
    with StoreReader(home.store) as reader:
        assert reader.run(capped).state == "stopped"
        assert reader.run(exact).state == "queued"
        assert reader.config(exact)["precision"]["devices"] == 2
        (event,) = [e for e in reader.events(exact) if e.kind == "replanned"]
        assert event.message == "continues with precision.devices = 2 instead of 1"


def ranks_below(pid: int) -> list[psutil.Process]:
    """Return the processes that train, of all below a worker."""
    found = psutil.Process(pid).children(recursive=True)
    return [
        p for p in found if "jobs.child.runner" in p.cmdline() and "--no-python" not in p.cmdline()
    ]


@contextlib.contextmanager
def worker(home: Home) -> Iterator[subprocess.Popen[bytes]]:
    """Run `sepdash worker --drain` on the CPU."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "tui.main", "worker", "--drain", "--device", "cpu"],
        env={**os.environ, "SEPDASH_HOME": str(home.root)},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.long
@pytest.mark.slow
def test_two_processes_on_the_cpu_survive_what_one_survives(home, tmp_path):
    """Kill -9 of the worker leaves no process behind, and costs no update."""
    write_dataset(tmp_path / "audio", tracks=2, duration_s=4.0)
    presets = home.root / "presets"
    presets.mkdir(exist_ok=True)
    (presets / "two.toml").write_text(f"""
        [data]
        kind = "bandwidth"
        train = {json.dumps(str(tmp_path / "audio" / "train"))}
        valid = {json.dumps(str(tmp_path / "audio" / "valid"))}
        rate_hz = 8000
        segment_s = 0.5
        input_rates_hz = [2000, 4000]
        [model]
        kind = "audio_unet"
        width = 4
        [batch]
        items = 4
        micro_batch = 2
        [loss]
        windows = [256, 64]
        [schedule]
        length = "60 updates"
        [validation]
        every = "30 updates"
        max_items = 2
        [checkpoint]
        every = "20 updates"
        [precision]
        device = "cpu"
        threads = 1
        [logging]
        flush_s = 0.05
    """)
    subprocess.run(
        [
            sys.executable, "-P", "-m", "tui.main", "enqueue", "two",
            "--set", "precision.devices=2",
        ],
        env={**os.environ, "SEPDASH_HOME": str(home.root)}, check=True, capture_output=True,
    )  # fmt: skip

    def updates() -> int:
        with StoreReader(home.store) as reader:
            return reader.run(1).updates

    with worker(home) as first:
        until(lambda: updates() > 15, "the run trains")
        ranks = ranks_below(first.pid)
        assert len(ranks) == 2
        first.kill()
        first.wait()
        _, left = psutil.wait_procs(ranks, timeout=DEADLINE_S)
        assert left == []
    saved = updates()
    with worker(home) as second:
        assert second.wait(DEADLINE_S) == 0

    log = (home.run_folder(1) / "log.txt").read_text()
    with StoreReader(home.store) as reader:
        run = reader.run(1)
        assert (run.state, run.updates, run.message) == ("finished", 60, ""), log
        assert reader.curve(1, "loss", max_points=10**6).updates == list(range(1, 61))
    assert log.count("on 2 x cpu") == 2
    assert f"resumed after update {saved}" in log
    with StoreWriter(home.store) as store:
        counted = store.rows("SELECT items, micro_batches FROM runs WHERE id = ?", (1,))
    assert counted == [(240, 120)]
