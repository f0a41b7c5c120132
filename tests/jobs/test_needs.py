"""Runs that need other runs: order, waiting in words, refusals, and what becomes of them when things break."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from engine.checkpoints.referenced import found
from engine.config.errors import ConfigError
from jobs import submit
from jobs.child.needs import NeedError, checkpoints_needed
from jobs.home import Home
from jobs.needs import folders_needed
from jobs.store.errors import StateError
from jobs.store.needs import circle, in_vain
from jobs.store.reader import StoreReader
from jobs.store.records import NeedRecord, RunRecord, Wait
from jobs.store.writer import StoreWriter
from jobs.submit import NewRun
from jobs.worker.serve import serve
from jobs.worker.supervisor import Child
from tests.jobs.test_worker import worker

FAKES = Path(__file__).parent / "fakes"
COMMAND = (sys.executable, "-P", str(FAKES / "training.py"))
PLAIN, MISTAKE, DIES_ONCE = 0, 1, 5
DEADLINE_S = 120.0


def until(condition: Callable[[], object], what: str) -> None:
    """Wait until a condition holds; fail after a deadline."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"still not so: {what}"
        time.sleep(0.02)


def run_of(home: Home, run: int | str) -> RunRecord:
    """Return a run's row."""
    with StoreReader(home.store) as reader:
        return reader.run(run)


def needs_of(home: Home, run_id: int) -> list[NeedRecord]:
    """Return what a run needs."""
    with StoreReader(home.store) as reader:
        return reader.needs(run_id)


def drain(home: Home) -> tuple[int, list[str]]:
    """Make what can be made in this process; return the worker's answer and what it said."""
    said: list[str] = []
    count = serve(home, device="cpu", drain=True, echo=said.append, child=Child(COMMAND))
    return count, said


def save_checkpoint(home: Home, run_id: int, name: str, content: str = "5") -> Path:
    """Put a checkpoint of a run on disk, as far as its manifest goes."""
    folder = home.run_folder(run_id) / "checkpoints" / name
    folder.mkdir(parents=True)
    text = f'{{"files": {{"state.json": {{"sha256": "{content}"}}}}}}'
    (folder / "manifest.json").write_text(text)
    return folder


@pytest.fixture
def enqueue(home, make_config):
    """Return a function that enqueues a fake run with a name, a behaviour and maybe a base."""

    def add(
        name: str, base: str | None = None, *, behaviour: int = PLAIN, updates: int = 60
    ) -> int:
        config = make_config(
            seed=behaviour,
            init_from=base,
            schedule={"length": f"{updates} updates"},
            logging={"system_every_s": 0.1},
        )
        return submit.enqueue(home, config, name=name)

    return add


def test_a_run_starts_after_the_run_it_needs_whatever_their_places(home, enqueue):
    base = enqueue("base", updates=80)
    tuned = enqueue("tuned", "base@last")
    other = enqueue("other")
    submit.move(home, tuned, to="top")
    assert run_of(home, tuned).waiting == "waiting for base (queued)"
    assert run_of(home, base).waiting == run_of(home, other).waiting == ""

    assert drain(home)[0] == 0

    started = sorted(
        (run_of(home, id_) for id_ in (base, tuned, other)), key=lambda r: r.started_at
    )
    assert [run.name for run in started] == ["base", "tuned", "other"]
    assert [run.state for run in started] == ["finished"] * 3
    saved = home.run_folder(base) / "checkpoints" / "last-1"
    (need,) = needs_of(home, tuned)
    assert (need.key, need.needed, need.which, need.checkpoint) == (
        "init_from", base, "last", str(saved),
    )  # fmt: skip
    with StoreReader(home.store) as reader:
        message = reader.events(tuned)[0].message
    assert message == f"init_from: base@last is {saved} (content {need.content})"


def test_a_killed_base_is_made_again_before_what_needs_it(home, enqueue):
    enqueue("base", behaviour=DIES_ONCE, updates=120)
    tuned = enqueue("tuned", "base")

    assert drain(home)[0] == 0

    base = run_of(home, "base")
    assert (base.state, base.updates) == ("finished", 120)
    assert run_of(home, tuned).state == "finished"
    assert run_of(home, tuned).started_at >= base.ended_at


def test_a_failed_base_leaves_what_needs_it_in_the_queue_and_a_draining_worker_ends(home, enqueue):
    base = enqueue("base", behaviour=MISTAKE)
    tuned, last = enqueue("tuned", "base"), enqueue("last", "tuned")
    free = enqueue("free", updates=20)

    count, said = drain(home)

    assert count == 3
    assert run_of(home, free).state == "finished"
    failed = "waiting for base, which failed: resume it, or remove this run"
    assert f"run tuned (id {tuned}) is left {failed}" in said
    assert f"run last (id {last}) is left waiting for tuned (queued)" in said
    run = run_of(home, tuned)
    assert (run.state, run.waiting) == ("queued", failed)

    with StoreWriter(home.store) as store:
        store.move(base, "stopped", ("failed",))
    assert "base, which was stopped: resume it" in run_of(home, tuned).waiting
    with StoreWriter(home.store) as store:
        store.move(base, "finished", ("stopped",))
    save_checkpoint(home, base, "last-000009")
    assert drain(home)[0] == 0
    assert [run_of(home, id_).state for id_ in (tuned, last)] == ["finished"] * 2


def test_of_two_workers_one_waits_for_the_base_that_the_other_makes(home, enqueue):
    base, tuned = enqueue("base", updates=1000), enqueue("tuned", "base", updates=20)
    with worker(home) as process:
        until(lambda: run_of(home, base).updates > 100, "the base trains")
        share = run_of(home, tuned).waiting
        assert share.startswith("waiting for base (running, ")
        with StoreWriter(home.store) as store:
            second = store.add_worker("cuda:7", pid=process.pid, token="")
            assert store.claim(second) is None
            store.remove_worker(second)
        until(lambda: run_of(home, tuned).state == "finished", "both are made")
    assert run_of(home, base).state == "finished"


def test_a_draining_worker_hopes_for_what_runs_elsewhere_and_for_nothing_else():
    def wait(run: int, needed: int, state: str | None) -> Wait:
        return Wait(run, "init_from", needed=needed, name="x", state=state, progress=0.0)

    waits = {
        2: [wait(2, 1, "running")], 3: [wait(3, 2, "queued")], 5: [wait(5, 4, "failed")],
        6: [wait(6, 2, "queued"), wait(6, 5, "queued")], 7: [wait(7, 6, "queued")],
        9: [wait(9, 8, None)],
    }  # fmt: skip
    assert in_vain(waits) == {5, 6, 7, 9}


def test_references_that_lead_nowhere_are_refused_and_nothing_is_queued(home, enqueue, make_config):
    base = enqueue("base-1")
    refused = {
        "base-2": "no run 'base-2', did you mean 'base-1'? (write a folder with a slash: ./base-2)",
        "77": "no run '77'",
        "base-1@sdr": "run base-1 keeps no checkpoint 'sdr'; expected best, last, ",
        "base-1@": "expected a run's name or id, or a checkpoint folder",
        "self": "run self can't wait for itself; name another run",
        f"{home.root}/nowhere": "nowhere contains no checkpoint",
        "~nobody-here/run": "/~nobody-here/run contains no checkpoint",
        f"{home.root}/{'long' * 99}": "can't be read: File name too long",
    }
    for text, message in refused.items():
        with pytest.raises(ConfigError) as error:
            enqueue("self", text)
        (problem,) = error.value.problems
        assert problem.key == "init_from"
        assert message in problem.message
    other = make_config(init_from="base-1", model={"kind": "conv_tasnet"})
    with pytest.raises(ConfigError, match=r"run base-1 trains a model of kind 'audio_unet', but"):
        submit.enqueue(home, other)
    with StoreWriter(home.store) as store:
        store.move(base, "finished", ("queued",))
    with pytest.raises(ConfigError, match=r"base-1 has finished, but has no checkpoint 'best' in "):
        enqueue("late", "base-1")
    save_checkpoint(home, base, "last-000009")
    with pytest.raises(
        ConfigError, match=r"has no checkpoint 'si_sdr' in .*; available: last-000009"
    ):
        enqueue("late", "base-1@si_sdr")
    with StoreReader(home.store) as reader:
        assert [run.name for run in reader.runs()] == ["base-1"]
    lenient = other.model_copy(update={"init_strict": False})
    assert submit.enqueue(home, lenient, name="lenient") > base


def test_the_folder_above_a_checkpoint_is_refused_now_and_not_when_the_run_starts(home, enqueue):
    """What is accepted when queued is what a run finds when it starts; the hint names a folder that is."""
    base = enqueue("base-1")
    save_checkpoint(home, base, "last-000009")
    saved = home.run_folder(base) / "checkpoints" / "last-000009"
    imported = home.root / "models" / "imported"
    shutil.copytree(saved, imported)
    with pytest.raises(ConfigError) as error:
        enqueue("late", str(imported.parent))
    assert f"has saved a checkpoint; did you mean {imported}?" in str(error.value)
    assert enqueue("late", str(imported))


def test_the_folder_that_cluster_wrote_is_a_k_means_model_and_no_weights(
    home, make_config, tmp_path
):
    written = tmp_path / "clusters"
    stage = written / "stages" / "clusters"
    stage.mkdir(parents=True)
    (stage / "manifest.json").write_text('{"files": {}}')
    data: dict[str, object] = {"kind": "unlabelled", "normalize_waveform": True}
    for split in ("train", "valid"):
        data[split] = str(tmp_path / split)
        (tmp_path / split).mkdir()
        soundfile.write(tmp_path / split / "a.wav", np.full(48_000, 0.1), 16_000)
    base = {"data": data, "model": {"kind": "hubert", "extractor_norm": "layer_norm"}}
    config = make_config(**base, loss={"kind": "hubert", "kmeans_from": str(written)})
    run = submit.enqueue(home, config, name="first")
    assert checkpoints_needed(home, run, note=False) == {"loss.kmeans_from": stage}
    further = {"kind": "hubert", "kmeans_from": "first"}
    other = make_config(**base, loss={**further, "clusters": 50}, init_from="first")
    with pytest.raises(
        ConfigError,
        match=r"first trains a model for 100 clusters, but this run has loss\.clusters = 50",
    ):
        submit.enqueue(home, other)
    narrow = {**base["model"], "dim": 64, "heads": 4}
    other = make_config(**{**base, "model": narrow}, loss=further, init_from="first")
    with pytest.raises(
        ConfigError, match=r"to start from it, set model\.dim = 768, model\.heads = 12"
    ):
        submit.enqueue(home, other)
    # What is needed for two things is waited for once.
    second = submit.enqueue(home, make_config(**base, loss=further, init_from="first"))
    assert run_of(home, second).waiting == "waiting for first (queued)"
    assert found(folders_needed(home, config)) == {"loss.kmeans_from": stage}
    with pytest.raises(ConfigError, match="contains no checkpoint"):
        submit.enqueue(home, make_config(**base, loss={"kind": "hubert"}, init_from=str(written)))


def test_runs_queued_together_may_need_each_other_but_not_in_a_circle(home, make_config):
    def new(name: str, base: str | None) -> NewRun:
        return NewRun(make_config(init_from=base), name=name)

    circle = [new("a", "c"), new("b", "a"), new("c", "b"), new("d", None)]
    with pytest.raises(ConfigError, match=r"never start: a needs c needs b needs a$"):
        submit.enqueue_all(home, circle)
    with StoreReader(home.store) as reader:
        assert reader.runs() == []

    ids = submit.enqueue_all(home, [new("b", "a"), new("a", None), new("c", "a")])
    assert run_of(home, "b").waiting == run_of(home, "c").waiting == "waiting for a (queued)"
    with StoreWriter(home.store) as store:
        assert store.claim(0) == ids[1]
        assert store.claim(0) is None


def test_a_chain_of_runs_may_be_long():
    end = 3000
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE run_needs (run INTEGER PRIMARY KEY, key, needed INTEGER)")
        insert = "INSERT INTO run_needs VALUES (?, 'init_from', ?)"
        connection.executemany(insert, [(run, run - 1) for run in range(2, end + 1)])
        assert circle(connection, [end]) == []
        connection.execute(insert, (1, end - 1))
        assert circle(connection, [end]) == list(range(end - 1, 0, -1))


def test_a_later_run_of_the_same_name_is_not_meant(home, enqueue):
    base, tuned = enqueue("base"), enqueue("tuned", "base")
    with pytest.raises(StateError, match=rf"run {base} can't be removed: tuned needs it; remove"):
        submit.remove(home, base)
    submit.remove(home, base, force=True)
    gone = (
        "waiting for base, which was removed: remove this run and enqueue it with another init_from"
    )
    assert run_of(home, tuned).waiting == gone

    later = enqueue("base")

    assert run_of(home, tuned).waiting == gone
    assert run_of(home, later).waiting == ""
    assert drain(home)[0] == 1
    assert run_of(home, tuned).state == "queued"


def test_runs_that_go_together_are_removed_together(home, enqueue):
    ids = [enqueue("base"), enqueue("tuned", "base"), enqueue("other", "base")]
    with pytest.raises(StateError, match=r"tuned, other need it; remove those runs first"):
        submit.remove(home, ids[0])
    for run_id in ids:
        submit.remove(home, run_id, together=ids)
    with StoreReader(home.store) as reader:
        assert reader.runs() == []


def test_a_resumed_run_keeps_to_its_checkpoint_or_says_that_it_has_changed(home, enqueue, tmp_path):
    base, tuned = enqueue("base"), enqueue("tuned", "base")
    saved = save_checkpoint(home, base, "last-000009")
    first = checkpoints_needed(home, tuned, note=True)
    assert first == {"init_from": saved}

    # The run goes on from what it began with, and waits for nobody.
    save_checkpoint(home, base, "last-000010", content="6")
    assert checkpoints_needed(home, tuned, note=True) == first
    assert run_of(home, tuned).waiting == ""
    (saved / "manifest.json").write_text('{"files": {"state.json": {"sha256": "7"}}}')
    with pytest.raises(NeedError, match=r"init_from: the checkpoint .*, base\) has changed"):
        checkpoints_needed(home, tuned, note=False)
    shutil.rmtree(saved)
    with pytest.raises(NeedError, match="is missing; restore it and resume, or enqueue a new run"):
        checkpoints_needed(home, tuned, note=False)

    # With a checkpoint of its own it does without the weights that it began with.
    own = save_checkpoint(home, tuned, "last-000003")
    assert checkpoints_needed(home, tuned, note=False) == {}
    with pytest.raises(StateError, match="tuned needs it"):
        submit.remove(home, base)
    with StoreWriter(home.store) as store:
        store.add_checkpoint(tuned, "last", path=str(own), updates=3, metrics={}, size_bytes=1)
    submit.remove(home, base)


def test_a_folder_is_not_waited_for(home, enqueue, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    elsewhere = save_checkpoint(Home(tmp_path / "other"), 3, "last-000009")
    tuned = enqueue("tuned", "./other/runs/000003")

    (need,) = needs_of(home, tuned)
    assert (need.needed, need.reference) == (None, str(tmp_path / "other" / "runs" / "000003"))
    assert run_of(home, tuned).waiting == ""
    assert checkpoints_needed(home, tuned, note=True) == {"init_from": elsewhere}
