"""Searches for the fastest settings of a config and shows the progress; Escape cancels the search."""

from __future__ import annotations

from collections.abc import Mapping
from threading import Event
from typing import TYPE_CHECKING, Any, ClassVar

from rich.table import Table
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import Static

from engine.child_processes import Cancelled
from engine.tuning.setups import Options
from jobs.home import Home
from jobs.tuning import Found, tunable_config, tune
from tui.dialogs.box import BoxScreen
from tui.live.actions import Failed, attempt
from tui.reports.tuning import HEADERS, cells, set_lines, summary

if TYPE_CHECKING:
    from engine.tuning.setups import Row, Tuning


class TuneScreen(BoxScreen[dict[str, Any] | None]):
    """Returns the chosen settings, or None if the user discards them."""

    DEFAULT_CSS = "TuneScreen > VerticalScroll { width: 120; max-width: 98%; padding: 0 1; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "take", "Apply"),
        Binding("escape", "leave", "Discard"),
    ]

    def __init__(self, home: Home, values: Mapping[str, Any]) -> None:
        super().__init__()
        self._home = home
        self._values = values
        self._cancel = Event()
        self._rows: list[Row] = []
        self._result: Tuning | None = None

    def compose(self) -> ComposeResult:
        """Lay out a box: the table of trials, and the result."""
        with VerticalScroll() as box:
            box.border_title = "benchmark on this machine"
            box.border_subtitle = "Esc: cancel"
            yield Static(id="tried")
            yield Static("measuring memory ...", id="found", markup=False)

    def on_mount(self) -> None:
        """Start the search."""
        self._search()

    def on_unmount(self) -> None:
        """Cancel the search, so that no child process outlives the screen."""
        self._cancel.set()

    def action_leave(self) -> None:
        """Cancel the search, or discard its result."""
        self._cancel.set()
        self.dismiss(None)

    def action_take(self) -> None:
        """Return the settings once the search has ended."""
        if self._result is not None:
            self.dismiss(self._result.settings)

    @work(thread=True, exclusive=True)
    def _search(self) -> None:
        def emit(row: Row) -> None:
            self.app.call_from_thread(self._add, row)

        def search() -> Found | None:
            config = tunable_config(self._values)
            try:
                return tune(self._home, config, options=Options(), emit=emit, cancel=self._cancel)
            except Cancelled:
                return None

        outcome = attempt(self._home, search)
        if isinstance(outcome, Failed):
            self.app.call_from_thread(self._fail, outcome.text)
        elif outcome is not None:
            self.app.call_from_thread(self._end, outcome.result)

    def _add(self, row: Row) -> None:
        self._rows.append(row)
        self._show(self._rows, "measuring ...")

    def _fail(self, reason: str) -> None:
        self._show(self._rows, reason)
        self._close_with("Esc: close")

    def _end(self, result: Tuning) -> None:
        self._result = result
        chosen = "\n".join(set_lines(result)) or "no faster settings found"
        self._show(result.rows, "\n".join([*summary(result), "", chosen]))
        self._close_with("Enter: apply settings, Esc: discard")

    def _show(self, rows: list[Row] | tuple[Row, ...], text: str) -> None:
        if not self.is_mounted:
            return
        table = Table(*HEADERS, box=None, pad_edge=False)
        for column in table.columns[1:-1]:
            column.justify, column.no_wrap = "right", True
        for row in rows:
            table.add_row(*cells(row))
        self.query_one("#tried", Static).update(table if rows else "")
        self.query_one("#found", Static).update(text)

    def _close_with(self, keys: str) -> None:
        if self.is_mounted:
            self.query_one(VerticalScroll).border_subtitle = keys
