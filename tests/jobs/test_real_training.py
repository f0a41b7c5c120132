"""The real trainer under the real worker: kill -9 leaves the same curves as no kill at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from engine.config.schema import RunConfig
from jobs import submit
from jobs.home import Home
from jobs.store.reader import StoreReader
from jobs.store.records import RunRecord
from tests.jobs.small_training import WORKER, small_config
from tests.waiting import until

pytestmark = pytest.mark.slow

UPDATES = 60
DEADLINE_S = 180.0


@pytest.fixture(scope="module")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    return small_config(tmp_path_factory.mktemp("audio"), UPDATES)


@contextlib.contextmanager
def worker(home: Home) -> Iterator[subprocess.Popen[bytes]]:
    """Run a draining worker in a process of its own."""
    process = subprocess.Popen([sys.executable, "-P", "-c", WORKER, str(home.root)])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def run_of(home: Home, run_id: int) -> RunRecord:
    """Return a run's row."""
    with StoreReader(home.store) as reader:
        return reader.run(run_id)


def curves_of(home: Home, run_id: int) -> dict[str, tuple[list[int], list[float | None]]]:
    """Return every curve that does not depend on the clock, point by point."""
    with StoreReader(home.store) as reader:
        names = [name for name in reader.series_names(run_id) if not name.endswith("per_s")]
        found = reader.curves(run_id, names, max_points=10**6)
    return {name: (curve.updates, curve.last) for name, curve in found.items()}


def log_of(home: Home, run_id: int) -> str:
    """Return a run's log."""
    return (home.run_folder(run_id) / "log.txt").read_text()


def test_killed_runs_end_with_the_curves_of_one_that_was_left_alone(home, small_run):
    quiet, child_killed, worker_killed = (submit.enqueue(home, small_run) for _ in range(3))
    with worker(home) as process:
        until(lambda: run_of(home, child_killed).updates > 15, "the second run trains")
        os.kill(run_of(home, child_killed).pid, signal.SIGKILL)
        until(lambda: run_of(home, worker_killed).updates > 15, "the third run trains")
        process.kill()
        process.wait()
        assert run_of(home, worker_killed).state == "running"
        with worker(home) as second:
            assert second.wait(DEADLINE_S) == 0

    expected = curves_of(home, quiet)
    assert expected["loss"][0] == list(range(1, UPDATES + 1))
    assert expected["si_sdr"][0] == [1, 20, 40, 60]
    for run_id in (quiet, child_killed, worker_killed):
        run = run_of(home, run_id)
        assert (run.state, run.updates, run.message) == ("finished", UPDATES, ""), log_of(
            home, run_id
        )
        assert curves_of(home, run_id) == expected
        assert run.best == run_of(home, quiet).best
    assert "resumed after update" in log_of(home, child_killed)
    assert "resumed after update" in log_of(home, worker_killed)


def test_a_mistake_in_the_data_is_one_clear_message(home, small_run, tmp_path):
    gone = tmp_path / "gone"
    shutil.copytree(small_run.data.train, gone)
    data = small_run.data.model_copy(update={"train": gone})
    run_id = submit.enqueue(home, small_run.model_copy(update={"data": data}))
    shutil.rmtree(gone)
    gone.mkdir()

    with worker(home) as process:
        assert process.wait(DEADLINE_S) == 1

    run = run_of(home, run_id)
    assert run.state == "failed"
    assert str(gone) in run.message
    assert "data.train" in run.message
    assert "Traceback" not in log_of(home, run_id)
