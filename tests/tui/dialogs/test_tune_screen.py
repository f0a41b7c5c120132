"""The search for the fastest way, started from the preset form."""

from __future__ import annotations

import threading

import pytest
from textual.app import App
from textual.widgets import Static

from engine.child_processes import Cancelled
from engine.tuning.race import Ratio
from engine.tuning.setups import Row, Tuning
from jobs.home import Home
from jobs.tuning import Found
from tests.tui.screens.test_preset_screen import opened
from tests.waiting import until_shown as until
from tui.dialogs.tune import TuneScreen

GIB = 2**30
ROWS = (
    Row("batch.micro_batch = 4", 4, 4, (), 3 * GIB, 310.0, 155.0, Ratio(0.81, 0.78, 0.85, 9), "rejected: slower"),
    Row("batch.micro_batch = 8", 8, 2, (), 5 * GIB, 452.2, 226.1, Ratio(1.18, 1.15, 1.21, 60), "selected: shown to be faster"),
    Row("unchanged preset", 16, 1, (), 9 * GIB, 383.1, 191.6, Ratio(1.0, 1.0, 1.0, 40), "rejected: slower"),
    Row("precision.dtype = bf16", 8, 2, (), 4 * GIB, 330.4, 165.2, Ratio(0.86, 0.82, 0.9, 5), "rejected: slower"),
    Row("precision.compile = true", 8, 2, (), 0, 0.0, 0.0, None, "rejected: failed, SIGSEGV"),
)  # fmt: skip
RESULT = Tuning(
    "Some GPU", 20 * GIB, budget_bytes=18 * GIB, goal_items=16, micro_batches=2, rows=ROWS, settings={"batch.micro_batch": 8, "precision.tf32": True},
    peak_bytes=5 * GIB, items_per_s=452.2, audio_s_per_s=226.1, ratio=Ratio(1.17, 1.13, 1.21, 50), law_error=0.004, seconds=41.0, notes=("precision.channels_last was not tried (time budget used up); raise --budget-s",),
)  # fmt: skip


def finds(home, config, options, *, emit, cancel):
    for row in ROWS:
        emit(row)
    return Found(RESULT, kept=False)


def text(screen, name: str) -> str:
    return str(screen.query_one(f"#{name}", Static).render())


async def test_what_was_found_goes_into_the_form(home: Home, monkeypatch) -> None:
    monkeypatch.setattr("tui.dialogs.tune.tune", finds)
    async with opened(home, "demo/baseline") as (it, pilot):
        await pilot.press("ctrl+t")
        await until(pilot, lambda: isinstance(it.app.screen, TuneScreen))
        shown = it.app.screen
        await until(pilot, lambda: "batch.micro_batch=8" in text(shown, "found"))
        await pilot.press("enter")
        await until(pilot, lambda: it.app.screen is it.screen)
        await until(pilot, lambda: it.row("batch.micro_batch").text == "8")
        assert it.row("precision.tf32").text == "true"
        assert "1 changed" in it.text("problems") or "2 changed" in it.text("problems")


async def test_escape_calls_the_search_off_and_changes_nothing(home: Home, monkeypatch) -> None:
    ended = threading.Event()

    def waits(home, config, options, *, emit, cancel):
        assert cancel.wait(20)
        ended.set()
        raise Cancelled

    monkeypatch.setattr("tui.dialogs.tune.tune", waits)
    async with opened(home, "demo/baseline") as (it, pilot):
        await pilot.press("ctrl+t")
        await until(pilot, lambda: isinstance(it.app.screen, TuneScreen))
        await pilot.press("enter")
        assert isinstance(it.app.screen, TuneScreen)
        await pilot.press("escape")
        await until(pilot, lambda: it.app.screen is it.screen)
        await until(pilot, ended.is_set)
        assert "0 changed" in it.text("problems")


async def test_what_stands_in_the_way_is_shown(home: Home, monkeypatch) -> None:
    def refuses(home, config, options, *, emit, cancel):
        raise ValueError("not even one item of 1 s fits")

    monkeypatch.setattr("tui.dialogs.tune.tune", refuses)
    async with opened(home, "demo/baseline") as (it, pilot):
        await pilot.press("ctrl+t")
        await until(pilot, lambda: isinstance(it.app.screen, TuneScreen))
        shown = it.app.screen
        await until(pilot, lambda: "not even one item" in text(shown, "found"))


class _Shown(App[None]):
    def __init__(self, home: Home) -> None:
        super().__init__()
        self._home = home

    def on_mount(self) -> None:
        values = {"data": {"kind": "stems", "targets": ["voice"], "others": ["noise"]}}
        self.push_screen(TuneScreen(self._home, values))


@pytest.mark.parametrize("size", [(80, 24), (130, 30)])
def test_how_it_looks(size, home: Home, monkeypatch, snap_compare) -> None:
    monkeypatch.setattr("tui.dialogs.tune.tune", finds)

    async def found(pilot) -> None:
        await until(pilot, lambda: "batch.micro_batch=8" in text(pilot.app.screen, "found"))

    assert snap_compare(_Shown(home), terminal_size=size, run_before=found)
