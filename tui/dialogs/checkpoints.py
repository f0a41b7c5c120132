"""The checkpoints of a run as a list, from which a resume state can be chosen."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from textual.app import App
from textual.widgets.option_list import Option

from jobs.home import Home
from jobs.store.records import RunRecord
from tui.dialogs.reading import ChoosingScreen
from tui.live import actions
from tui.reports.formats import MISSING, clean

if TYPE_CHECKING:
    from engine.checkpoints.choosing import CheckpointInfo


class CheckpointsScreen(ChoosingScreen["list[CheckpointInfo]"]):
    """Returns the name of the chosen resume state; Escape or q returns None."""

    keys = "Enter: resume, Esc: close"

    def __init__(self, home: Home, run: RunRecord) -> None:
        super().__init__(home)
        self._run = run

    def _box_title(self) -> str:
        return f"resume {clean(self._run.name)} from"

    def _read(self) -> list[CheckpointInfo]:
        from engine.checkpoints.choosing import checkpoints_of

        return checkpoints_of(self._home.run_folder(self._run.id), metric=self._run.metric)

    def _show(self, found: list[CheckpointInfo]) -> None:
        options = [Option(_line(one), id=one.name, disabled=not one.is_state) for one in found]
        note = (
            "Newer resume states are set aside, not deleted; curves after the chosen update are."
            if any(one.is_state for one in found)
            else "No resume state yet."
        )
        self._offer(options, note)


def resume_from(
    app: App[None],
    home: Home,
    *,
    run: RunRecord | None,
    perform: Callable[[Callable[[], str]], None],
) -> None:
    """Ask for a resume state of a run, and let `perform` queue the run to go on from it."""

    def answered(name: str | None) -> None:
        if name and run is not None:
            perform(partial(actions.resume, home, run, checkpoint=name))

    if run is not None:
        app.push_screen(CheckpointsScreen(home, run), answered)


def _line(one: CheckpointInfo) -> str:
    from engine.checkpoints.choosing import value_text

    saved = time.strftime("%m-%d %H:%M", time.localtime(one.saved_at)) if one.saved_at else MISSING
    facts = [
        f"{clean(one.name):<24}",
        f"{one.updates:>9,} updates" if not one.problem else one.problem,
        f"{one.epochs:>8.2f} epochs" if one.epochs else "",
        f"{one.size_bytes / 1e6:>8.1f} MB" if one.size_bytes else "",
        saved,
        value_text(one),
    ]
    return "  ".join(fact for fact in facts if fact)
