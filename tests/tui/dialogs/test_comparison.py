"""Runs compared on the dashboard: the tables of `sepdash compare`, and a screen that never waits."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import asynccontextmanager

import pytest
from textual.widgets import Static

import jobs.comparison.compare as comparing
from tests.tui.experiments import BATCH, ONE_SEED, add_experiment
from tests.waiting import until_shown as until
from tui.apps.dashboard import SepdashApp
from tui.dialogs.comparison import NOTHING, ComparisonScreen
from tui.widgets.runs_table import RunsTable

SIZES = [(80, 24), (120, 40), (200, 50)]


@pytest.fixture
def opened(home, clock) -> Callable[..., object]:
    """Return a context manager that opens the dashboard on two experiments and a run of none."""
    add_experiment(home, "batch", BATCH, loss="l1")
    add_experiment(home, "alone", ONE_SEED)
    add_experiment(home, "batch", {"lost": {0: 0.0}}, state="failed")
    add_experiment(home, "", {"": {9: 0.0}})

    @asynccontextmanager
    async def open_app(size=(100, 30), *, select: str = ""):
        app = SepdashApp(home, clock=clock)
        async with app.run_test(size=size) as pilot:
            table = app.screen.query_one(RunsTable)
            await until(pilot, lambda: len(table.runs) == 18)
            if select:
                await choose(pilot, select)
            yield app, pilot

    return open_app


async def choose(pilot, name: str) -> None:
    """Select a run by its name, with the keys of a person."""
    table = pilot.app.screen.query_one(RunsTable)
    row = next(index for index, run in enumerate(table.runs) if run.name == name)
    await pilot.press("home", *["down"] * row)
    assert table.selected == table.runs[row].id


def text_of(app) -> str:
    return str(app.screen.query_one(Static).render())


def is_compared(app) -> bool:
    return isinstance(app.screen, ComparisonScreen) and "reference" in text_of(app)


@pytest.mark.parametrize("size", SIZES)
async def test_the_experiment_of_the_selected_run_is_compared_at_any_size(opened, size):
    async with opened(size, select="batch-base-0") as (app, pilot):
        await pilot.press("C")
        await until(pilot, lambda: is_compared(app))
        lines = text_of(app).splitlines()
        (row,) = [line for line in lines if line.startswith("twice")][:1]
        assert row.endswith("better")
        assert "failed runs are left out: batch-lost-0" in lines[-1]
        assert any(line.startswith("note: si_sdr decides") for line in lines)
        await pilot.pause()
        assert max(map(len, lines)) <= app.screen.query_one(Static).size.width
        await pilot.press("escape")
        assert not isinstance(app.screen, ComparisonScreen)


async def test_marked_runs_are_compared_with_the_first_marked_one(opened):
    async with opened(select="alone-twice-0") as (app, pilot):
        await pilot.press("space")
        await choose(pilot, "alone-base-0")
        await pilot.press("space", "C")
        await until(pilot, lambda: is_compared(app))
        assert "Differences are relative to twice" in " ".join(text_of(app).split())
        assert "models differ" in text_of(app)


async def test_one_marked_run_is_compared_with_the_selected_one(opened):
    async with opened(select="alone-base-0") as (app, pilot):
        await pilot.press("space")
        await choose(pilot, "alone-same-0")
        await pilot.press("C")
        await until(pilot, lambda: is_compared(app))
        assert "2 runs compared" in text_of(app)
        assert "Differences are relative to base" in " ".join(text_of(app).split())


async def test_without_marks_and_experiment_the_keys_are_named(opened):
    async with opened(select="--9") as (app, pilot):
        said: list[str] = []
        app.screen.notify = lambda text, **_: said.append(text)
        await pilot.press("C")
        assert said == [NOTHING]


async def test_other_clocks_and_the_last_evaluations_are_a_key_away(opened):
    async with opened(select="batch-base-0") as (app, pilot):
        await pilot.press("C")
        await until(pilot, lambda: is_compared(app) and "up to 80 items, at the best" in flat(app))
        await pilot.press("b")
        await until(pilot, lambda: "up to 80 items, at the last" in flat(app))
        await pilot.press("x")
        await until(pilot, lambda: "up to 20 updates, at the last" in flat(app))
        await pilot.press("x")
        await until(pilot, lambda: "epochs unknown for" in flat(app))
        await pilot.press("x")
        await until(pilot, lambda: "up to 2h00m of training time" in flat(app))


def flat(app) -> str:
    return " ".join(text_of(app).split())


async def test_a_comparison_that_takes_long_holds_nothing_up(opened, monkeypatch):
    """The screen closes while it is computed; its result comes too late, and nobody minds."""
    go, ended = threading.Event(), threading.Event()
    compare = comparing.compare

    def slow(*args, **options):
        assert go.wait(20)
        try:
            return compare(*args, **options)
        finally:
            ended.set()

    monkeypatch.setattr(comparing, "compare", slow)
    async with opened(select="batch-base-0") as (app, pilot):
        await pilot.press("C")
        await until(pilot, lambda: isinstance(app.screen, ComparisonScreen))
        assert text_of(app) == "comparing ..."
        await pilot.press("escape")
        assert not isinstance(app.screen, ComparisonScreen)
        await pilot.press("down")
        go.set()
        await until(pilot, ended.is_set)
        await pilot.pause()
        assert app.is_running


async def test_runs_without_an_evaluation_say_so(home, clock, lab):
    for name in ("first", "second"):
        lab.run(name)
    app = SepdashApp(home, clock=clock)
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: len(app.screen.query_one(RunsTable).runs) == 2)
        await pilot.press("home", "space", "down", "space", "C")
        await until(pilot, lambda: isinstance(app.screen, ComparisonScreen))
        await until(pilot, lambda: "nothing to compare: no evaluation" in flat(app))


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("name", ["batch", "alone"])
def test_how_it_looks(home, clock, snap_compare, size, name):
    add_experiment(home, name, BATCH if name == "batch" else ONE_SEED, loss="l1")

    async def compared(pilot) -> None:
        # Before the first frame, there is no table at all.
        await until(pilot, lambda: [t for t in pilot.app.screen.query(RunsTable) if t.selected])
        await pilot.press("C")
        await until(pilot, lambda: is_compared(pilot.app))
        await pilot.pause()

    assert snap_compare(SepdashApp(home, clock=clock), terminal_size=size, run_before=compared)
