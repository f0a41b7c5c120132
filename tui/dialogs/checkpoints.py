"""The checkpoints of a run as a list, from which a resume state can be chosen."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from jobs.home import Home
from jobs.store.records import RunRecord
from tui.dialogs.box import BoxScreen
from tui.live import actions
from tui.live.actions import Failed, attempt
from tui.reports.formats import MISSING, clean

if TYPE_CHECKING:
    from engine.checkpoints.choosing import CheckpointInfo


class CheckpointsScreen(BoxScreen[str | None]):
    """Returns the name of the chosen resume state; Escape or q returns None."""

    DEFAULT_CSS = """
    CheckpointsScreen > VerticalScroll { width: 110; }
    CheckpointsScreen OptionList { height: auto; max-height: 20; border: none; background: $panel; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q", "dismiss(None)", "close")]

    def __init__(self, home: Home, run: RunRecord) -> None:
        super().__init__()
        self._home = home
        self._run = run

    def compose(self) -> ComposeResult:
        """Lay out the box; a thread reads the manifests."""
        with VerticalScroll() as box:
            box.border_title = f"resume {clean(self._run.name)} from"
            box.border_subtitle = "Enter: resume, Esc: close"
            yield Static("reading ...", id="note", markup=False)
            yield OptionList(markup=False)

    def on_mount(self) -> None:
        """Read the checkpoints."""
        self.run_worker(self._read, thread=True, name="checkpoints")

    def _read(self) -> None:
        from engine.checkpoints.choosing import checkpoints_of

        folder = self._home.run_folder(self._run.id)
        found = attempt(self._home, lambda: checkpoints_of(folder, metric=self._run.metric))
        self.app.call_from_thread(self._show, found)

    def _show(self, found: list[CheckpointInfo] | Failed) -> None:
        if not self.is_mounted:
            return
        note, options = self.query_one("#note", Static), self.query_one(OptionList)
        if isinstance(found, Failed):
            note.update(found.text)
            return
        states = any(one.is_state for one in found)
        note.update(
            "Newer resume states are set aside, not deleted; curves after the chosen update are."
            if states
            else "No resume state yet."
        )
        options.add_options(
            Option(_line(one), id=one.name, disabled=not one.is_state) for one in found
        )
        options.highlighted = 0 if states else None
        options.focus()

    @on(OptionList.OptionSelected)
    def _chosen(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(str(event.option_id))


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
