"""Real training from trained weights, through the real worker: exact figures, kills, a base that is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from engine.config.schema import RunConfig
from jobs import submit
from jobs.home import Home
from jobs.store.reader import StoreReader
from jobs.store.records import RunRecord
from tests.jobs.small_training import WORKER, small_config

pytestmark = pytest.mark.slow

UPDATES = 40
DEADLINE_S = 200.0


@pytest.fixture(scope="module")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    return small_config(tmp_path_factory.mktemp("audio"), UPDATES)


def run_of(home: Home, run_id: int) -> RunRecord:
    """Return a run's row."""
    with StoreReader(home.store) as reader:
        return reader.run(run_id)


def until(condition: Callable[[], object], what: str) -> None:
    """Wait until a condition holds; fail after a deadline."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"still not so: {what}"
        time.sleep(0.01)


def curves_of(home: Home, run_id: int) -> dict[str, tuple[list[int], list[float | None]]]:
    """Return every curve that does not depend on the clock, point by point."""
    with StoreReader(home.store) as reader:
        names = [name for name in reader.series_names(run_id) if not name.endswith("per_s")]
        found = reader.curves(run_id, names, max_points=10**6)
    return {name: (curve.updates, curve.last) for name, curve in found.items()}


def test_runs_start_from_exactly_the_trained_weights_and_survive_the_loss_of_their_base(
    home, small_run
):
    def enqueue(name: str, base: str | None) -> int:
        config = small_run.model_copy(update={"init_from": base})
        return submit.enqueue(home, config, name=name)

    base = enqueue("base", None)
    quiet, killed = enqueue("quiet", "base@si_sdr_ema"), enqueue("killed", f"{base}@si_sdr_ema")
    submit.move(home, base, to="bottom")
    process = subprocess.Popen([sys.executable, "-P", "-c", WORKER, str(home.root)])
    try:
        until(lambda: run_of(home, killed).updates > 12, "the third run trains")
        submit.remove(home, base, force=True)
        os.kill(run_of(home, killed).pid, signal.SIGKILL)
        assert process.wait(DEADLINE_S) == 0
    finally:
        process.kill()
        process.wait()

    log = (home.run_folder(killed) / "log.txt").read_text()
    for run_id in (quiet, killed):
        run = run_of(home, run_id)
        assert (run.state, run.updates, run.message) == ("finished", UPDATES, ""), log
    assert "resumed after update" in log
    curves = curves_of(home, quiet)
    assert curves["si_sdr"][0] == [0, 20, 40]
    assert curves_of(home, killed) == curves
    with StoreReader(home.store) as reader:
        (need,) = reader.needs(quiet)
        kinds = [event.kind for event in reader.events(quiet)]
    assert need.checkpoint.endswith("best-si_sdr_ema")
    assert {"need-met", "init-from"} <= set(kinds)


def test_the_first_figures_are_those_of_the_base(home, small_run):
    short = {
        "schedule": small_run.schedule.model_copy(update={"length": small_run.validation.every})
    }
    base = submit.enqueue(home, small_run.model_copy(update=short), name="base")
    folder = home.run_folder(base)
    tuned = submit.enqueue(home, small_run.model_copy(update={**short, "init_from": "base"}))
    process = subprocess.Popen([sys.executable, "-P", "-c", WORKER, str(home.root)])
    try:
        assert process.wait(DEADLINE_S) == 0
        wide = small_run.model.model_copy(update={"width": 5})
        update = {**short, "init_from": str(folder), "model": wide}
        misfit = submit.enqueue(home, small_run.model_copy(update=update))
        process = subprocess.Popen([sys.executable, "-P", "-c", WORKER, str(home.root)])
        assert process.wait(DEADLINE_S) == 1
    finally:
        process.kill()
        process.wait()

    first, begun = run_of(home, base), curves_of(home, tuned)
    assert begun["si_sdr"][0][0] == begun["si_sdr_ema"][0][0] == 0
    assert begun["si_sdr"][1][0] == begun["si_sdr_ema"][1][0] == first.top
    assert run_of(home, tuned).best_ema >= first.top
    failed = run_of(home, misfit)
    assert failed.state == "failed"
    assert "init_from: the weights in " in failed.message
    assert " has shape 4, expected 5" in failed.message
    assert "init_strict = false" in failed.message
    assert "Traceback" not in (home.run_folder(misfit) / "log.txt").read_text()
