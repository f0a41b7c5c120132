"""Events of a run: skipped updates, damaged checkpoints, out of memory, restarts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import Static

from jobs.home import Home
from jobs.store.records import EventRecord, RunRecord
from tui.dialogs.box import BoxScreen
from tui.live.actions import Failed, attempt
from tui.reports.formats import clean

_MOST = 500


class EventsScreen(BoxScreen[None]):
    """Lists the events of a run, newest first; Escape, q, v or Enter closes it."""

    DEFAULT_CSS = "EventsScreen > VerticalScroll { width: 110; }"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,v,enter", "dismiss", "close")]

    def __init__(self, home: Home, run: RunRecord) -> None:
        super().__init__()
        self._home = home
        self._run = run

    def compose(self) -> ComposeResult:
        """Lay out the box; a thread reads the events."""
        with VerticalScroll() as box:
            box.border_title = f"events of {clean(self._run.name)}"
            box.border_subtitle = "Esc: close"
            yield Static("reading ...", markup=False)

    def on_mount(self) -> None:
        """Read the events."""
        self.run_worker(self._read, thread=True, name="events")

    def _read(self) -> None:
        from jobs.store.reader import StoreReader

        def read() -> Text:
            with StoreReader(self._home.store) as reader:
                return self._lines(reader.events(self._run.id, limit=_MOST))

        found = attempt(self._home, read)
        text = Text(found.text) if isinstance(found, Failed) else found
        self.app.call_from_thread(self._show, text)

    def _show(self, text: Text) -> None:
        # It may have been closed meanwhile.
        if self.is_mounted:
            self.query_one(Static).update(text)

    def _lines(self, events: Sequence[EventRecord]) -> Text:
        colours = self.app.theme_variables
        text = Text()
        for event in reversed(events):
            moment = time.strftime("%m-%d %H:%M:%S", time.localtime(event.time))
            style = "" if event.level == "info" else colours[event.level]
            text.append(f"{moment}  ", style=colours["secondary"])
            text.append(f"{event.level:<8}", style=style)
            text.append(f"{clean(event.message)}\n")
        return text or Text("No events.")
