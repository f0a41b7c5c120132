"""A defect in the thread of a dialogue is said there, and saved; the dashboard goes on."""

from __future__ import annotations

import pytest
from textual.app import App
from textual.widgets import Static

from engine.config.loading import load_config
from jobs.store.reader import StoreReader
from presets.catalogue import Catalogue
from tests.waiting import until_shown as until
from tui.dialogs.batch_plan import BatchPlanScreen
from tui.dialogs.events import EventsScreen
from tui.dialogs.tune import TuneScreen


@pytest.mark.parametrize(
    ("broken", "where"),
    [
        ("tui.dialogs.batch_plan.plan_report", "#note"),
        ("tui.dialogs.tune.tune", "#found"),
        ("jobs.store.reader.StoreReader.events", "Static"),
    ],
)
async def test_a_defect_ends_no_dashboard(lab, monkeypatch, broken, where):
    def defect(*_args, **_named):
        raise KeyError("of a programmer")

    run = lab.run("night")
    values = Catalogue().read("denoise/small")
    with StoreReader(lab.home.store) as reader:
        record = reader.run(run)
    screen = {
        "#note": lambda: BatchPlanScreen(lab.home, load_config(values)),
        "#found": lambda: TuneScreen(lab.home, values),
        "Static": lambda: EventsScreen(lab.home, record),
    }[where]()
    monkeypatch.setattr(broken, defect)
    app: App[None] = App()
    async with app.run_test(size=(120, 30)) as pilot:
        await app.push_screen(screen)
        shown = screen.query_one(where, Static)
        await until(pilot, lambda: "internal error: KeyError(" in str(shown.content))
        await pilot.press("escape")
        await until(pilot, lambda: app.screen is not screen)
    assert "of a programmer" in (lab.home.root / "dashboard.log").read_text()
