"""Key w: it asks before it stops workers, and stops all of them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.waiting import until_shown as until
from tui.apps.dashboard import SepdashApp
from tui.dialogs.confirm import ConfirmScreen
from tui.widgets.status_line import StatusLine


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Two processes that stand for workers."""
    started = [
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(99)"]) for _ in range(2)
    ]
    yield started
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.parametrize("answer", ["y", "n"])
async def test_all_workers_are_stopped_once_a_person_says_so(lab, clock, processes, answer):
    run = lab.run("night", "running", updates=100, plain=True)
    for number, process in enumerate(processes):
        lab.worker(pid=process.pid, run=run if number else None, device=f"cuda:{number}")
    app = SepdashApp(lab.home, clock=clock)
    async with app.run_test(size=(100, 30)) as pilot:
        status = app.screen.query_one(StatusLine)
        await until(pilot, lambda: [worker.alive for worker in status.crew] == [True, True])
        await pilot.press("w")
        await until(pilot, lambda: isinstance(app.screen, ConfirmScreen))
        await pilot.press(answer)
        if answer == "y":
            await until(pilot, lambda: all(process.poll() is not None for process in processes))
        else:
            await pilot.pause()
            assert [process.poll() for process in processes] == [None, None]
