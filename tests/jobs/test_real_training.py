"""The real trainer under the real worker: kill -9 leaves the same curves as no kill at all."""

from __future__ import annotations

import os
import shutil
import signal

import pytest

from engine.config.schema import RunConfig
from jobs import submit
from jobs.home import Home
from tests.jobs.small_training import curves_of, run_of, small_config, worker
from tests.waiting import until

pytestmark = pytest.mark.slow

UPDATES = 60
DEADLINE_S = 180.0


@pytest.fixture(scope="module")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    return small_config(tmp_path_factory.mktemp("audio"), UPDATES)


def log_of(home: Home, run_id: int) -> str:
    """Return a run's log."""
    return (home.run_folder(run_id) / "log.txt").read_text()


@pytest.mark.long
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
