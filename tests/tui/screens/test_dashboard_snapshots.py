"""How the dashboard looks, pixel for pixel: fixed clock, fixed store."""

from __future__ import annotations

import asyncio
import os
import time

import pytest

from jobs.store.needs import insert_needs
from jobs.store.records import NeedRecord
from tests.tui.objectives import add_hubert, add_separation, add_voice, add_wav2vec2
from tui.apps.dashboard import SepdashApp
from tui.widgets.charts.chart import Chart
from tui.widgets.log_tail import LogTail
from tui.widgets.run_line import RunLine
from tui.widgets.status_line import StatusLine


async def settle(pilot, done) -> None:
    """Wait until what is asynchronous is on the screen."""
    end = time.monotonic() + 20
    while not done():
        assert time.monotonic() < end
        await pilot.pause()
        await asyncio.sleep(0.01)
    await pilot.pause()


async def filled(pilot) -> None:
    def done() -> bool:
        screen = pilot.app.screen
        return bool(
            [chart for chart in screen.query(Chart) if chart.plot.lines]
            and [tail for tail in screen.query(LogTail) if tail.lines]
            and [line for line in screen.query(StatusLine) if line.sample]
        )

    await settle(pilot, done)


@pytest.fixture
def night(lab, clock):
    """The app on a night of work."""
    ids = lab.night()
    lab.worker(pid=os.getpid(), run=ids[4])
    return SepdashApp(lab.home, clock=clock)


@pytest.mark.parametrize("size", [(80, 24), (200, 50)], ids=lambda size: f"{size[0]}x{size[1]}")
def test_a_night_of_work(snap_compare, night, size):
    assert snap_compare(night, terminal_size=size, run_before=filled)


def test_runs_compared(snap_compare, night):
    async def compare(pilot):
        await filled(pilot)
        await pilot.press("end", "space", "up", "space", "up", "space", "x")
        chart = pilot.app.screen.query_one("#score", Chart)
        await settle(pilot, lambda: len(chart.plot.lines) == 4)

    assert snap_compare(night, terminal_size=(120, 36), run_before=compare)


@pytest.mark.parametrize(
    "size", [(80, 24), (120, 40), (200, 50)], ids=lambda size: f"{size[0]}x{size[1]}"
)
def test_runs_that_share_no_axis(snap_compare, lab, clock, size):
    runs = [
        add_hubert(lab, "hubert-mfcc-s0"),
        add_hubert(lab, "hubert-mfcc-s1", seed=1, level=1.2),
        add_hubert(lab, "hubert-second", level=2.0, clusters=500, targets_from="hubert-mfcc-s0"),
        add_wav2vec2(lab, "wav2vec2"),
        add_separation(lab, "denoise"),
    ]
    lab.sample(clock() - 1)

    async def compare(pilot):
        await filled(pilot)
        chart = pilot.app.screen.query_one("#loss", Chart)
        await settle(pilot, lambda: len(chart.plot.apart) == 3)

    app = SepdashApp(lab.home, select=runs, clock=clock)
    assert snap_compare(app, terminal_size=size, run_before=compare)


def test_the_light_theme(snap_compare, night):
    async def light(pilot):
        await filled(pilot)
        pilot.app.theme = "sepdash-light"
        await pilot.pause()

    assert snap_compare(night, terminal_size=(80, 24), run_before=light)


def test_help(snap_compare, night):
    async def ask(pilot):
        await filled(pilot)
        await pilot.press("question_mark")
        await pilot.pause()

    assert snap_compare(night, terminal_size=(80, 30), run_before=ask)


def test_a_question_before_removal(snap_compare, night):
    async def ask(pilot):
        await filled(pilot)
        await pilot.press("end", "d")
        await settle(
            pilot, lambda: not isinstance(pilot.app.screen, type(pilot.app.screen_stack[0]))
        )

    assert snap_compare(night, terminal_size=(80, 24), run_before=ask)


def test_nothing_yet(snap_compare, home, clock):
    async def empty(pilot):
        await settle(
            pilot, lambda: [line for line in pilot.app.screen.query(StatusLine) if line.size]
        )

    assert snap_compare(SepdashApp(home, clock=clock), terminal_size=(80, 24), run_before=empty)


def test_speech_recognition_beside_separation(snap_compare, lab, clock):
    lab.run("denoise-small-1", "finished", updates=5000)
    run = lab.run("digits-1", "running", updates=4000, metric="wer", level=4.0)
    lab.worker(pid=os.getpid(), run=run)
    lab.sample(clock() - 1)
    app = SepdashApp(lab.home, clock=clock)
    assert snap_compare(app, terminal_size=(120, 30), run_before=filled)


def test_runs_that_wait_for_other_runs(snap_compare, lab, clock):
    lab.run("codec-1", "failed", updates=900, message="training diverged")
    base = lab.run("pretrain-1", "running", updates=8000)
    runs = [lab.run(name) for name in ("tuned-1", "tuned-2", "free-1")]
    needs = [
        NeedRecord(
            runs[0],
            "init_from",
            reference="pretrain-1",
            needed=base,
            needed_name="pretrain-1",
            which="best",
            only_at_start=True,
        ),
        NeedRecord(
            runs[1],
            "init_from",
            reference="codec-1",
            needed=base - 1,
            needed_name="codec-1",
            which="best",
            only_at_start=True,
        ),
    ]
    with lab.writer.transaction() as connection:
        insert_needs(connection, needs)
    lab.worker(pid=os.getpid(), run=base)
    lab.sample(clock() - 1)
    app = SepdashApp(lab.home, clock=clock)

    async def choose(pilot):
        await filled(pilot)
        await pilot.press("down", "down")
        await settle(pilot, lambda: pilot.app.screen.query_one(RunLine).run.id == runs[1])
        await settle(pilot, lambda: not pilot.app.screen.query_one(LogTail).lines)
        chart = pilot.app.screen.query_one("#score", Chart)
        await settle(pilot, lambda: chart.plot.empty == "waiting for another run")

    assert snap_compare(app, terminal_size=(120, 30), run_before=choose)


@pytest.mark.parametrize("size", [(80, 24), (200, 50)], ids=lambda size: f"{size[0]}x{size[1]}")
def test_the_losses_of_a_voice(snap_compare, lab, clock, size):
    run = add_voice(lab, "voice-1")
    lab.sample(clock() - 1)
    app = SepdashApp(lab.home, select=[run], clock=clock)
    assert snap_compare(app, terminal_size=size, run_before=filled)
