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
def queued(home, make_config):
    """Queue three seeds of an experiment, which will have checkpoints, and ask for their probe."""
    runs = []
    for seed in (0, 5, 6):
        config = make_config(seed=seed, schedule={"length": "20 updates"})
        run = submit.enqueue(home, config, name=f"exp-a-s{seed}", experiment="ssl/exp", variant="a")
        folder = home.run_folder(run) / "checkpoints" / "best-wer"
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text(json.dumps({"metrics": {"wer": 0.5}}))
        runs.append(run)

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
    assert due(home) is None
    said = drain(home)
    ended = [line for line in said if line.startswith(("run", "probe"))]
    assert [line.split()[0] for line in ended] == ["run"] * 6 + ["probe"] * 2
    assert due(home) is None
    found = kept_result(home, "ssl/exp")
    assert {item.variant for item in found.encoders} == {"a", "random, a", "MFCC"}
    (against_mfcc,) = (c for c in found.comparisons if c.reference == "MFCC")
    assert against_mfcc.verdict == "better"
    assert against_mfcc.difference.num_runs == (3, 3)
    assert result_path(home, "ssl/exp").stat().st_mode & 0o777 == 0o600
    with StoreReader(home.store) as reader:
        messages = [event.message for event in reader.events()]
    assert any("`sepdash probe ssl/exp` shows it" in text for text in messages)


def test_a_problem_is_the_result(home, queued):
    queued("bad.jsonl")
    said = drain(home)
    assert said[-2] == "probe of ssl/exp failed: nothing can be probed with it"
    with pytest.raises(ValueError, match="nothing can be probed with it"):
        kept_result(home, "ssl/exp")
    assert due(home) is None


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
    assert due(home).experiment == "ssl/exp"


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
    serve(home, due(home), device="cpu", echo=said.append, cancel=threading.Event())
    assert "none of its runs has finished with a checkpoint" in said[-1]
    assert due(home) is None


def test_a_damaged_request_is_put_aside_and_reported_once(home, caplog):
    request_probe(home, "good", runs=[7], settings=ProbeSettings(data=Path("x.jsonl")))
    path = request_path(home, "bad")
    path.write_text("{")
    for _ in range(3):
        assert due(home).experiment == "good"
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
    assert due(home) is None
    assert opened == []
    for name in ("a", "b", "c"):
        settings = ProbeSettings(data=Path("x.jsonl"))
        request_probe(home, name, runs=[7], settings=settings)
    assert due(home).experiment == "a"
    assert opened == [home.store]
