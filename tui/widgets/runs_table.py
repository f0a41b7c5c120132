"""The table of runs: queue, progress, results. Draws only visible rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.color import Color
from textual.geometry import Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from jobs.store.records import RunRecord
from tui.reports.formats import fit
from tui.widgets.charts import palette
from tui.widgets.run_cells import BAR, Cell, header, layout, row_cells

EMPTY = ("No runs yet.", "Press n to choose a preset and queue the first run.")


class RunsTable(ScrollView, can_focus=True):
    """Lists runs in queue order; the cursor stays on its run when the order changes."""

    HELP = "Up and down select a run; charts, metrics and log show the selected run."

    DEFAULT_CSS = """
    RunsTable {
        background: $surface;
        overflow-x: hidden;
        overflow-y: auto;
        scrollbar-size-vertical: 1;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "up", show=False),
        Binding("down,j", "move(1)", "down", show=False),
        Binding("pageup", "page(-1)", "page up", show=False),
        Binding("pagedown", "page(1)", "page down", show=False),
        Binding("home,g", "move(-1000000)", "first", show=False),
        Binding("end,G", "move(1000000)", "last", show=False),
    ]

    runs: reactive[tuple[RunRecord, ...]] = reactive(())
    marks: reactive[Mapping[int, int]] = reactive[Mapping[int, int]]({})
    selected: reactive[int | None] = reactive(None)

    class Selected(Message):
        """The user selected another run."""

        def __init__(self, run: int) -> None:
            super().__init__()
            self.run = run

        def can_replace(self, message: Message) -> bool:
            """Only the newest selection counts."""
            return isinstance(message, RunsTable.Selected)

    def __init__(self, *, clock: Callable[[], float] = time.time, id: str | None = None) -> None:
        super().__init__(id=id)
        self._clock = clock

    @property
    def cursor_row(self) -> int:
        """The row of the selected run, 0 where there is none."""
        return next((row for row, run in enumerate(self.runs) if run.id == self.selected), 0)

    def watch_runs(self, old: Sequence[RunRecord], new: Sequence[RunRecord]) -> None:
        """Update the length of the scrollbar; a cursor in sight stays there, whatever was queued above it."""
        row = next((row for row, run in enumerate(old) if run.id == self.selected), -1)
        was_in_sight = 0 <= row - self.scroll_offset.y < max(1, self.size.height - 1)
        self.virtual_size = Size(self.size.width, len(new) + 1)
        if was_in_sight:
            self.call_after_refresh(self._keep_in_sight)
        self.refresh()

    def _keep_in_sight(self) -> None:
        self.scroll_to_row(self.cursor_row)

    def watch_selected(self) -> None:
        """Keep the cursor visible."""
        self.scroll_to_row(self.cursor_row)
        self.refresh()

    def watch_marks(self) -> None:
        """Draw the marks."""
        self.refresh()

    def on_resize(self) -> None:
        """Keep the cursor visible when the table shrinks."""
        self.virtual_size = Size(self.size.width, len(self.runs) + 1)
        self.call_after_refresh(self.scroll_to_row, self.cursor_row)

    def scroll_to_row(self, row: int) -> None:
        """Scroll so that a row is visible below the header."""
        height = max(1, self.size.height - 1)
        top = self.scroll_offset.y
        if row < top:
            self.scroll_to(y=row, animate=False)
        elif row >= top + height:
            self.scroll_to(y=row - height + 1, animate=False)

    def action_move(self, rows: int) -> None:
        """Select the run `rows` rows away."""
        if self.runs:
            row = min(len(self.runs) - 1, max(0, self.cursor_row + rows))
            self._choose(row)

    def action_page(self, pages: int) -> None:
        """Select the run `pages` pages away."""
        self.action_move(pages * max(1, self.size.height - 2))

    def on_click(self, event: events.Click) -> None:
        """Select the run under the mouse."""
        row = event.y - 1 + self.scroll_offset.y
        if event.y > 0 and row < len(self.runs):
            self._choose(row)

    def _choose(self, row: int) -> None:
        run = self.runs[row].id
        if run != self.selected:
            self.selected = run
            self.post_message(self.Selected(run))

    def render_line(self, y: int) -> Strip:
        """Return the header, a run, or a hint if there are no runs."""
        width = self.size.width
        base = self.rich_style
        columns = layout(width)
        if y == 0:
            cells = header(columns, self.runs)
        elif not self.runs:
            return self._hint(y, width)
        elif (row := y - 1 + self.scroll_offset.y) < len(self.runs):
            run = self.runs[row]
            cells = row_cells(run, columns, place=self._place(run), now=self._clock())
            if run.id == self.selected:
                base += Style(bgcolor=self._colour("panel"), bold=True)
            return self._mark(run, base) + self._paint(cells, base, width=width - 2)
        else:
            return Strip.blank(width, base)
        return Strip([Segment("  ", base)]) + self._paint(cells, base, width=width - 2)

    def _place(self, run: RunRecord) -> int:
        """Return the position of a queued run in the queue, from 1."""
        if run.state != "queued":
            return 0
        return [item.id for item in self.runs if item.state == "queued"].index(run.id) + 1

    def _mark(self, run: RunRecord, base: Style) -> Strip:
        index = self.marks.get(run.id)
        if index is None:
            edge = "▎" if run.id == self.selected else " "
            name = "primary" if self.has_focus else "secondary"
            return Strip([Segment(f"{edge} ", base + Style(color=self._colour(name)))])
        dark = self.app.current_theme.dark
        series = palette.SERIES_ON_DARK if dark else palette.SERIES_ON_LIGHT
        return Strip([Segment("● ", base + Style(color=series[index % len(series)]))])

    def _paint(self, cells: list[Cell], base: Style, *, width: int) -> Strip:
        segments = []
        for cell in cells:
            style = base
            if cell.colour:
                style += Style(color=self._colour(cell.colour))
            if cell.kind == BAR:
                style += Style(bgcolor=self._colour("track"))
            segments.append(Segment(cell.text, style))
        return Strip(segments).adjust_cell_length(width, base)

    def _hint(self, y: int, width: int) -> Strip:
        middle = max(1, (self.size.height - 1) // 2)
        text = EMPTY[y - middle] if 0 <= y - middle < len(EMPTY) else ""
        style = self.rich_style + Style(color=self._colour("" if y == middle else "dim"))
        return Strip([Segment(fit(text.center(width), width), style)])

    def _colour(self, name: str) -> str:
        variables = self.app.theme_variables
        text = Color.parse(variables["foreground"])
        ground = self.background_colors[1]
        if name in {"dim", "faint", "track", ""}:
            share = {"dim": 0.42, "faint": 0.6, "track": 0.86, "": 0.1}[name]
            return text.blend(ground, share).hex6
        return Color.parse(variables[name]).hex6
