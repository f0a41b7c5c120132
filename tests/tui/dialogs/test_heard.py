"""What a judge heard in the clips of a run, on the dashboard."""

from __future__ import annotations

from textual.widgets import Static

from jobs.store.records import ClipRecord
from tests.waiting import until_shown as until
from tui.apps.dashboard import SepdashApp
from tui.dialogs.heard import HeardScreen


async def shown(lab, clock) -> list[str]:
    app = SepdashApp(lab.home, clock=clock)
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: getattr(app.screen, "chosen", None) is not None)
        await pilot.press("h")
        await until(pilot, lambda: isinstance(app.screen, HeardScreen))
        note = app.screen.query_one(Static)
        await until(pilot, lambda: str(note.content) != "reading ...")
        lines = str(note.content).splitlines()
        await pilot.press("h")
        await until(pilot, lambda: not isinstance(app.screen, HeardScreen))
        return lines


async def test_clips_are_listed_with_what_was_heard_the_newest_first(lab, clock):
    run = lab.run("voice", "running", updates=500)
    lab.writer.add_clips(
        [
            ClipRecord(run, updates, item=item, kind=kind, path=f"{item}-{updates}", spectrogram="", text=text)
            for updates, item, kind, text in (
                (0, "0", "input", "five two nine"), (1000, "0", "estimate", ""),
                (2000, "0", "estimate", "five to\x1b[2J nine"), (0, "10", "input", "one"),
                (2000, "2", "estimate", "six"), (2000, "10", "estimate", "one"),
            )
        ]
    )  # fmt: skip
    lines = [" ".join(line.split()) for line in await shown(lab, clock)]
    assert lines == [
        "item 0 five two nine", "2,000 five to nine", "1,000 (nothing)", "item 2", "2,000 six",
        "item 10 one", "2,000 one",
    ]  # fmt: skip


async def test_a_run_without_a_judge_says_what_is_missing(lab, clock):
    lab.run("quiet", "running", updates=10)
    (line,) = await shown(lab, clock)
    assert "validation.judge" in line
