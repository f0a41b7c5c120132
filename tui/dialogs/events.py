"""Events of a run: skipped updates, damaged checkpoints, out of memory, restarts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType

from jobs.home import Home
from jobs.store.records import EventRecord, RunRecord
from tui.dialogs.reading import ReadingScreen
from tui.reports.formats import clean

_MOST = 500


class EventsScreen(ReadingScreen[None, Text]):
    """Lists the events of a run, newest first; Escape, q, v or Enter closes it."""

    DEFAULT_CSS = "EventsScreen > VerticalScroll { width: 110; }"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,v,enter", "dismiss", "close")]

    def __init__(self, home: Home, run: RunRecord) -> None:
        super().__init__(home)
        self._run = run

    def _box_title(self) -> str:
        return f"events of {clean(self._run.name)}"

    def _read(self) -> Text:
        from jobs.store.reader import StoreReader

        with StoreReader(self._home.store) as reader:
            return self._lines(reader.events(self._run.id, limit=_MOST))

    def _show(self, found: Text) -> None:
        self._say(found)

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
