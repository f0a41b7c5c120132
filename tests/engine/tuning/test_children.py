"""Trials in child processes: whatever ends one, the search goes on and no child is left."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from engine.child_processes import Cancelled
from engine.tuning.children import ChildMeasurer
from engine.tuning.measuring import describe_sizes, split_peaks
from engine.tuning.trials import Case, Job

FACTS = {
    "device": "cpu", "device_name": "fake", "total_bytes": 1, "free_bytes": 1, "own_bytes": 0,
}  # fmt: skip
# Measures cases by their count; 3 kills the child, 5 never ends, 7 complains about the data.
FAKE = f"""
import json, os, signal, sys, time
say = lambda **v: print(json.dumps(v), flush=True)
job = json.loads(sys.stdin.readline())
say(facts={FACTS!r})
for i, case in enumerate(job["cases"]):
    say(started=i)
    if case["count"] == 3: os.kill(os.getpid(), signal.SIGSEGV)
    if case["count"] == 5: time.sleep(600)
    if case["count"] == 7: say(problem="data.train: no such folder"); sys.exit(2)
    say(case=i, measured={{"outcome": "measured", "peak_bytes": case["count"], "update_s": []}})
say(done=True)
"""


def fake(**options) -> ChildMeasurer:
    return ChildMeasurer(command=[sys.executable, "-c", FAKE], **options)


def job(*counts: int, **options) -> Job:
    return Job(tuple(Case({}, count) for count in counts), "cpu", **options)


def test_a_crash_is_one_answer_and_the_rest_are_measured() -> None:
    answer = fake().measure(job(1, 3, 2), timeout_s=60)
    assert [one.outcome for one in answer.cases] == ["measured", "failed", "measured"]
    assert "SIGSEGV" in answer.cases[1].message
    assert answer.facts is not None
    assert answer.facts.device_name == "fake"


def test_a_case_that_never_ends_is_cut_off() -> None:
    started = time.monotonic()
    answer = fake().measure(job(1, 5, 2), timeout_s=1.5)
    assert [one.outcome for one in answer.cases] == ["measured", "timeout", "timeout"]
    assert time.monotonic() - started < 30
    assert not children()


def test_a_mistake_of_the_users_is_told_in_its_words() -> None:
    answer = fake().measure(job(7, 1), timeout_s=60)
    assert answer.problem == "data.train: no such folder"
    assert [one.outcome for one in answer.cases] == ["failed", "failed"]


def test_a_child_that_does_not_start_is_an_answer() -> None:
    measurer = ChildMeasurer(command=[sys.executable, "-c", "raise SystemExit('no torch here')"])
    answer = measurer.measure(job(1), timeout_s=60)
    assert (answer.cases[0].outcome, answer.cases[0].message) == ("failed", "no torch here")
    assert answer.facts is None


def test_a_search_that_is_called_off_leaves_no_child() -> None:
    cancel = threading.Event()
    timer = threading.Timer(0.5, cancel.set)
    timer.start()
    with pytest.raises(Cancelled):
        fake(cancel=cancel).measure(job(5), timeout_s=60)
    timer.join()
    assert not children()


def children() -> list[psutil.Process]:
    """Return the fake measurers that still run; earlier tests may have left readers' servers."""
    found = []
    for one in psutil.Process().children():
        with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            if FAKE in one.cmdline():
                found.append(one)
    return found


def test_peaks_are_split_at_the_mark() -> None:
    events = [
        (3, "[memory]", -100), (1, "[memory]", 100), (2, "[memory]", 50), (2, "aten::add", 9),
        (4, "sepdash optimizer phase", 0), (5, "[memory]", 20), (6, "[memory]", -20),
    ]  # fmt: skip
    assert split_peaks(events) == (150, 70)


def test_sizes_are_described_by_three_lengths() -> None:
    import numpy as np

    found = describe_sizes(np.array([[1.0, 9], [4.0, 5], [10.0, 30]]))
    assert found["lengths_s"] == (1.0, 4.0, 10.0)
    assert found["tokens"] == (9, 9, 30)
    assert (found["mean_s"], found["num_items"]) == (5.0, 3)
    skewed = describe_sizes(np.array([[1.0], [1.1], [11.0]]))
    assert skewed["lengths_s"] == (1.0, 6.0, 11.0)
    assert describe_sizes(np.array([[2.0], [2.0]]))["lengths_s"] == (2.0,)


@pytest.mark.slow
def test_running_out_of_memory_is_one_answer_of_a_real_child(make_config) -> None:
    values = make_config(data={"segment_s": 2.0}).to_dict()
    cases = (Case(values, 1), Case(values, 256), Case(values, 2), Case(values, 4))
    asked = Job(cases, "cpu", timing_s=0.1, limit_bytes=2**30, budget_bytes=None, survey=True)
    answer = ChildMeasurer().measure(asked, timeout_s=60)
    outcomes = [one.outcome for one in answer.cases]
    assert outcomes == ["measured", "oom", "measured", "measured"]
    one, _, two, four = answer.cases
    assert one.peak_bytes < two.peak_bytes < four.peak_bytes
    assert all(len(found.update_s) >= 1 and min(found.update_s) > 0 for found in (one, two, four))
    assert answer.facts is not None
    assert not answer.facts.has_2d


@pytest.mark.slow
def test_a_child_ends_with_the_one_that_waits_for_it(repository: Path) -> None:
    import subprocess

    child = subprocess.Popen(
        [sys.executable, "-P", "-m", "engine.programs.tuning_trial"], cwd=repository,
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert child.stdin is not None
    child.stdin.write(b'{"cases": [], "device": "cpu"}\n')
    child.stdin.flush()
    child.stdin.close()
    assert child.wait(timeout=60) in (0, 3)
