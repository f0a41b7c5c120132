"""Probes of experiments: made by a worker once all runs ended, kept, shown, and repeated after a stop."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path

import pytest

from jobs import submit
from jobs.probing import probe as probing
from jobs.probing.serving import due, kept_result, result_path, serve
from jobs.store.reader import StoreReader
from jobs.sweeps.probe_requests import read_request, request_path, request_probe
from jobs.sweeps.probe_settings import ProbeSettings
from jobs.worker.serve import serve as work
from jobs.worker.supervisor import Child
from tests.waiting import until

FAKES = Path(__file__).parents[1] / "fakes"
TRAINING = (sys.executable, "-P", str(FAKES / "training.py"))


@pytest.fixture(autouse=True)
def fake_program(monkeypatch):
    monkeypatch.setattr(probing, "PROGRAM", (sys.executable, "-P", str(FAKES / "probe.py")))


@pytest.fixture
def queue_run(home, make_config):
    """Return a function that queues a run of an experiment, which will have a checkpoint."""

    def queue(experiment, *, seed):
        config = make_config(seed=seed, schedule={"length": "20 updates"})
        name = f"{experiment.rpartition('/')[2]}-a-s{seed}"
        run = submit.enqueue(home, config, name=name, experiment=experiment, variant="a")
        folder = home.run_folder(run) / "checkpoints" / "best-wer"
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text(json.dumps({"metrics": {"wer": 0.5}}))
        return run

    return queue


@pytest.fixture
def queued(home, queue_run):
    """Queue three seeds of an experiment, and return a function that asks for their probe."""
    runs = [queue_run("ssl/exp", seed=seed) for seed in (0, 5, 6)]

    def ask(data="labels.jsonl"):
        request_probe(home, "ssl/exp", runs=runs, settings=ProbeSettings(data=Path(data)))
        return runs

    return ask


def drain(home, stop=None):
    said = []
    work(home, device="cpu", drain=True, echo=said.append, child=Child(TRAINING), stop=stop)
    return said


def test_a_worker_probes_once_all_runs_have_ended(home, queued):
    queued()
    assert due(home) == []
    said = drain(home)
    ended = [line for line in said if line.startswith(("run", "probe"))]
    assert [line.split()[0] for line in ended] == ["run"] * 6 + ["probe"] * 2
    assert due(home) == []
    found = kept_result(home, "ssl/exp")
    assert {item.variant for item in found.encoders} == {"a", "random, a", "MFCC"}
    (against_mfcc,) = (c for c in found.comparisons if c.reference == "MFCC")
    assert against_mfcc.verdict == "better"
    assert against_mfcc.difference.num_runs == (3, 3)
    assert result_path(home, "ssl/exp").stat().st_mode & 0o777 == 0o600
    with StoreReader(home.store) as reader:
        messages = [event.message for event in reader.events()]
    assert any("`sepdash probe ssl/exp` shows it" in text for text in messages)


def whole(said):
    """Return what happened to runs and probes, in order: their names and what the worker said of them."""
    lines = [line for line in said if line.startswith(("run", "probe"))]
    return [(line.split()[1 if line.startswith("run") else 2].rstrip(":"), line) for line in lines]


def test_with_several_experiments_queued_each_is_probed_before_the_next_run_starts(home, queue_run):
    for name in ("one", "two"):
        runs = [queue_run(name, seed=seed) for seed in (0, 5)]
        request_probe(home, name, runs=runs, settings=ProbeSettings(data=Path("x.jsonl")))
    last = queue_run("three", seed=0)
    seen = {}

    def echo(line):
        said.append(line)
        if line.startswith("probe of one:"):
            seen["kept"] = kept_result(home, "one") is not None
            with StoreReader(home.store) as reader:
                seen["waiting"] = [run.name for run in reader.runs() if run.state == "queued"]

    said = []
    work(home, device="cpu", drain=True, echo=echo, child=Child(TRAINING))
    assert [name for name, _ in whole(said)][::2] == [
        "one-a-s0", "one-a-s5", "one", "two-a-s0", "two-a-s5", "two", "three-a-s0",
    ]  # fmt: skip
    assert seen == {"kept": True, "waiting": ["two-a-s0", "two-a-s5", "three-a-s0"]}
    with StoreReader(home.store) as reader:
        assert reader.run(last).state == "finished"


def test_two_experiments_that_end_with_the_same_run_are_both_probed_before_the_next(
    home, queue_run
):
    first = queue_run("one", seed=0)
    queue_run("two", seed=0)
    for name in ("both", "again"):
        request_probe(home, name, runs=[first], settings=ProbeSettings(data=Path("x.jsonl")))
    said = drain(home)
    assert [name for name, _ in whole(said)][::2] == ["one-a-s0", "again", "both", "two-a-s0"]


def test_a_worker_that_is_stopped_while_it_probes_starts_no_run_after_it(home, queue_run):
    first, last = queue_run("one", seed=0), queue_run("two", seed=0)
    request_probe(home, "one", runs=[first], settings=ProbeSettings(data=Path("slow.jsonl")))
    stop, said = threading.Event(), []

    def echo(line):
        said.append(line)
        if line == "probe of one started":
            stop.set()

    work(home, device="cpu", drain=True, echo=echo, child=Child(TRAINING), stop=stop)
    assert [request.experiment for request in due(home)] == ["one"]
    with StoreReader(home.store) as reader:
        assert (reader.run(first).state, reader.run(last).state) == ("finished", "queued")
        assert reader.run(last).attempts == 0


def test_a_bug_in_a_probe_is_its_result_and_the_next_run_starts(
    home, queue_run, monkeypatch, caplog
):
    def broken(*args, **more):
        raise TypeError("no such thing")

    monkeypatch.setattr("jobs.probing.serving.answers_of_probe", broken)
    first, last = queue_run("one", seed=0), queue_run("two", seed=0)
    request_probe(home, "one", runs=[first], settings=ProbeSettings(data=Path("x.jsonl")))
    said = drain(home)
    assert "probe of one failed: TypeError: no such thing" in said
    assert any(record.exc_info for record in caplog.records)
    with StoreReader(home.store) as reader:
        assert reader.run(last).state == "finished"
    assert due(home) == []


def test_a_result_that_can_not_be_kept_keeps_no_run_from_starting(home, queue_run, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("jobs.probing.serving.write_private", full)
    first, last = queue_run("one", seed=0), queue_run("two", seed=0)
    request_probe(home, "one", runs=[first], settings=ProbeSettings(data=Path("x.jsonl")))
    stop = threading.Event()

    def echo(line):
        if line.startswith(f"run two-a-s0 (id {last}) finished"):
            stop.set()

    work(home, device="cpu", drain=True, echo=echo, child=Child(TRAINING), stop=stop)
    with StoreReader(home.store) as reader:
        assert reader.run(last).state == "finished"
    assert [request.experiment for request in due(home)] == ["one"]


def test_runs_that_join_while_a_probe_is_made_keep_the_request(home, queue_run):
    first = queue_run("one", seed=0)
    settings = ProbeSettings(data=Path("x.jsonl"))
    request_probe(home, "one", runs=[first], settings=settings)
    joined = []

    def echo(line):
        said.append(line)
        if line == "probe of one started" and not joined:
            joined.append(queue_run("one", seed=5))
            request_probe(home, "one", runs=joined, settings=settings)

    said = []
    work(home, device="cpu", drain=True, echo=echo, child=Child(TRAINING))
    assert [name for name, _ in whole(said)][::2] == ["one-a-s0", "one", "one-a-s5", "one"]
    assert {item.seed for item in kept_result(home, "one").encoders if item.variant == "a"} == {
        0,
        5,
    }


def test_a_problem_is_the_result(home, queued):
    queued("bad.jsonl")
    said = drain(home)
    assert said[-2] == "probe of ssl/exp failed: nothing can be probed with it"
    with pytest.raises(ValueError, match="nothing can be probed with it"):
        kept_result(home, "ssl/exp")
    assert due(home) == []


def test_a_stopped_worker_leaves_the_request_to_the_next_one(home, queued):
    queued("slow.jsonl")
    stop, said = threading.Event(), []
    options = {"device": "cpu", "drain": True, "child": Child(TRAINING), "stop": stop}
    thread = threading.Thread(target=work, args=(home,), kwargs={"echo": said.append, **options})
    thread.start()
    until(lambda: "probe of ssl/exp started" in said, "the probe has started")
    stop.set()
    thread.join(30)
    assert not thread.is_alive()
    assert kept_result(home, "ssl/exp") is None
    assert [request.experiment for request in due(home)] == ["ssl/exp"]


def test_later_runs_join_the_request_and_removed_ones_count_as_ended(home, queued, make_config):
    runs = queued()
    settings = ProbeSettings(data=Path("other.jsonl"))
    request_probe(home, "ssl/exp", runs=[runs[0], 99], settings=settings)
    request = read_request(request_path(home, "ssl/exp"))
    assert request.runs == (*runs, 99)
    assert request.data.endswith("other.jsonl")
    assert Path(request.data).is_absolute()


def test_without_a_finished_run_the_reason_is_kept(home):
    request_probe(home, "exp", runs=[7], settings=ProbeSettings(data=Path("x.jsonl")))
    said = []
    serve(home, due(home)[0], device="cpu", echo=said.append, cancel=threading.Event())
    assert "none of its runs has finished with a checkpoint" in said[-1]
    assert due(home) == []


def test_a_damaged_request_is_put_aside_and_reported_once(home, caplog):
    request_probe(home, "good", runs=[7], settings=ProbeSettings(data=Path("x.jsonl")))
    path = request_path(home, "bad")
    path.write_text("{")
    for _ in range(3):
        assert [request.experiment for request in due(home)] == ["good"]
    assert not path.exists()
    aside = path.with_name(f"{path.name}.unreadable")
    assert aside.read_text() == "{"
    with StoreReader(home.store) as reader:
        (event,) = reader.events()
    assert (event.level, event.kind) == ("warning", "probe")
    assert f"it was moved to {aside}" in event.message
    assert [record.exc_info for record in caplog.records] == [None]


def test_the_store_is_opened_once_for_all_requests_and_not_without_any(home, monkeypatch):
    opened = []

    def counting(path):
        opened.append(path)
        return StoreReader(path)

    monkeypatch.setattr("jobs.probing.serving.StoreReader", counting)
    assert due(home) == []
    assert opened == []
    for name in ("a", "b", "c"):
        settings = ProbeSettings(data=Path("x.jsonl"))
        request_probe(home, name, runs=[7], settings=settings)
    assert [request.experiment for request in due(home)] == ["a", "b", "c"]
    assert opened == [home.store]
