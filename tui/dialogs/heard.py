"""What a judge heard in the clips of a run, at each evaluation, beside what was to be said."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType

from jobs.home import Home
from jobs.store.records import RunRecord
from tui.dialogs.reading import ReadingScreen
from tui.reports.formats import clean
from tui.reports.heard import Hearing, hearings

_NOBODY = (
    "Nothing was heard: evaluations of this run keep no clips (validation.clips), have no judge "
    "(validation.judge), or have not been made yet."
)


class HeardScreen(ReadingScreen[None, Text]):
    """Lists clips with their texts, and what was heard in them, newest first; Escape, q, h or Enter closes it."""

    DEFAULT_CSS = "HeardScreen > VerticalScroll { width: 110; }"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,h,enter", "dismiss", "close")]

    def __init__(self, home: Home, run: RunRecord) -> None:
        super().__init__(home)
        self._run = run

    def _box_title(self) -> str:
        return f"what the judge heard of {clean(self._run.name)}"

    def _read(self) -> Text:
        from jobs.store.reader import StoreReader

        with StoreReader(self._home.store) as reader:
            return self._lines(hearings(reader.clips(self._run.id)))

    def _show(self, found: Text) -> None:
        self._say(found)

    def _lines(self, found: Sequence[Hearing]) -> Text:
        colours = self.app.theme_variables
        text = Text()
        for item, ones in groupby(found, key=lambda one: one.item):
            each = list(ones)
            text.append(f"item {item}  ", style=colours["secondary"])
            text.append(f"{clean(each[0].text)}\n", style="bold")
            for one in each:
                text.append(f"{one.updates:>9,}  ", style=colours["secondary"])
                text.append(f"{clean(one.heard)}\n")
        return text or Text(_NOBODY)
