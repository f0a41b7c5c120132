"""The events of a run on the dashboard."""

from __future__ import annotations

from textual.app import App
from textual.widgets import Static

from jobs.store.reader import StoreReader
from tests.waiting import until_shown as until
from tui.dialogs.events import EventsScreen


async def shown(lab, run_id: int) -> list[str]:
    with StoreReader(lab.home.store) as reader:
        record = reader.run(run_id)
    app: App[None] = App()
    async with app.run_test(size=(100, 24)) as pilot:
        screen = EventsScreen(lab.home, record)
        await app.push_screen(screen)

        def text() -> str:
            return str(screen.query_one(Static).content)

        await until(pilot, lambda: text() != "reading ...")
        lines = text().splitlines()
        await pilot.press("escape")
        assert app.screen is not screen
        return lines


async def test_events_are_listed_the_newest_first(lab):
    run = lab.run("night", "running", updates=500)
    lab.writer.add_event(run, "info", kind="resumed", message="resumed after update 400")
    lab.writer.add_event(run, "warning", kind="skipped", message="2 updates skipped \x1b[31m: NaN")
    lab.writer.add_event(lab.run("other"), "error", kind="failed", message="of another run")
    newest, oldest = await shown(lab, run)
    assert "warning 2 updates skipped" in newest
    assert "\x1b" not in newest
    assert oldest.endswith("info    resumed after update 400")


async def test_a_run_without_events_says_so(lab):
    assert await shown(lab, lab.run("quiet")) == ["No events."]
