"""A search with real workers: killed anywhere, and two of them at once, it loses and doubles no trial."""

from __future__ import annotations

import collections
import itertools
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.home import Home
from jobs.searches.control import start
from jobs.searches.definition import find
from jobs.searches.tending import FASTER
from jobs.searches.trials import open_trials
from jobs.store.reader import StoreReader
from jobs.sweeps.plan import plan_sweep
from presets.catalogue import Catalogue
from tests.jobs.searches.fakes.training import true_value
from tests.jobs.searches.simulated import PRESET

WORKER = Path(__file__).parent / "fakes" / "worker.py"
LR = {"optimizer": {"lr": {"low": 1e-5, "high": 0.1, "log": True}}}

pytestmark = pytest.mark.slow


@pytest.fixture
def begin(home: Home, tmp_path: Path, write_tone):
    """Return a function that starts a search of real workers on `lr`."""
    for name in ("train", "valid"):
        write_tone(tmp_path / "data" / name / "tone.wav")

    def make(**search) -> Home:
        (home.presets / "tiny.toml").write_text(PRESET.format(folder=tmp_path / "data"))
        values = {
            "base": "tiny",
            "search": {"space": LR, "confirm_seeds": 1, "confirm": 1, **search},
        }
        start(home, plan_sweep("lr", values, Catalogue(home.presets)))
        return home

    return make


def worker(
    home: Home, *kill: str, device: str = "cpu", **environment: str
) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-P", str(WORKER), str(home.root), device, *kill]
    return subprocess.Popen(
        command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip


def assert_whole(home: Home, trials: int) -> None:
    """Check that every trial has one run and one end, that both agree, and that the best was confirmed."""
    definition = find(home, "lr")
    assert (definition.state, definition.message) == ("finished", "")
    opened = open_trials(home, definition)
    try:
        found = opened.list()
    finally:
        opened.close()
    assert [trial.variant for trial in found] == [f"t{number:03d}" for number in range(trials)]
    with StoreReader(home.store) as reader:
        runs = reader.runs()
        mine = {run.variant: run for run in runs if run.experiment == "lr:trials"}
        assert len(mine) == sum(run.experiment == "lr:trials" for run in runs) == trials
        for trial in found:
            run = mine[trial.variant]
            pruned = run.state == "stopped" and run.message.startswith("pruned at")
            assert trial.state == ("pruned" if pruned else "finished"), (run.state, run.message)
            kinds = collections.Counter(event.kind for event in reader.events(run.id))
            # Once each, whatever was killed in between; and pruned are those alone that ended by it.
            assert kinds["pruned"] == (trial.state == "pruned")
            assert kinds["pruning"] <= 1
            # One that finishes while the worker is killed may be faster than the stop, and then says so.
            assert kinds[FASTER] == (trial.state == "finished" and kinds["pruning"])
            lr = reader.config(run.id)["optimizer"]["lr"]
            assert trial.settings == {"optimizer.lr": lr}
            if trial.state == "finished":
                assert trial.value == pytest.approx(true_value(lr))
                assert sorted(trial.reported) == list(range(1, 11))
        confirming = collections.Counter(
            (run.variant, run.seed) for run in runs if run.experiment == "lr"
        )
        best = max((t for t in found[1:] if t.value is not None), key=lambda t: t.value)
        assert confirming == {("baseline", 1): 1, (best.variant, 1): 1}
        assert {run.state for run in runs if run.experiment == "lr"} == {"finished"}


# Each worker dies the N-th time that it comes to its place, and the next one takes over. The first call that
# proposes is about the base, which is not drawn. What follows a step at once stands for the place after it.
IN_A_STEP = [
    *((f"before:{place}", 2) for place in ("ask", "settle", "enqueue", "note", "tell")),
    ("before:report", 5),
    *((f"after:{place}", 1) for place in ("note", "tell", "report")),
    ("before:move", 1),
    ("after:move", 1),
]


@pytest.mark.long
@pytest.mark.timeout(600)
def test_workers_killed_within_a_step_lose_and_double_nothing(begin):
    home = begin(trials=len(IN_A_STEP), pruner="none")
    for place, number in IN_A_STEP:
        killed = worker(home, place, str(number))
        assert killed.wait(120) == -signal.SIGKILL, place
    assert worker(home).wait(200) == 0
    assert_whole(home, len(IN_A_STEP))


@pytest.mark.long
@pytest.mark.parametrize("place", ["before:stop", "after:stop"])
def test_a_worker_killed_while_it_gives_a_run_up_prunes_it_once(begin, place):
    home = begin(trials=6, startup=1, sampler="random", prune_from=0.1)
    # Runs that are given up are slow: they have not ended before the next worker is there. Others, which
    # begin with the base, are fast.
    environment = {"FAKE_UPDATE_S": "0.2", "FAKE_FAST": "1e-4:2e-3"}
    killed = worker(home, place, "1", **environment)
    assert killed.wait(200) == -signal.SIGKILL
    assert worker(home, **environment).wait(200) == 0
    assert_whole(home, 6)
    with StoreReader(home.store) as reader:
        assert any(run.message.startswith("pruned at") for run in reader.runs())


@pytest.mark.long
def test_workers_killed_at_random_times_lose_and_double_nothing(begin):
    home = begin(trials=8, startup=2)
    draw = random.Random(5)
    kills = 0
    while kills < 7:
        process = worker(home, FAKE_UPDATE_S="0.01")
        try:
            process.wait(draw.uniform(1.0, 4.0))
            break
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1
    assert kills >= 4
    assert worker(home).wait(200) == 0
    assert_whole(home, 8)


def test_two_workers_share_a_search(begin):
    home = begin(trials=6, pruner="none")
    both = [worker(home, device=name, FAKE_UPDATE_S="0.02") for name in ("cuda:0", "cuda:1")]
    assert [process.wait(200) for process in both] == [0, 0]
    assert_whole(home, 6)
    with StoreReader(home.store) as reader:
        spans = sorted(
            (run.started_at, run.ended_at) for run in reader.runs() if run.experiment == "lr:trials"
        )
    overlaps = sum(later[0] < earlier[1] for earlier, later in itertools.pairwise(spans))
    # How many depends on how fast processes start; a worker that leaves, or waits for the other, has none.
    assert overlaps >= 1
