"""The chart widget: draws a `Plot` in `render_line`, and reads values under the mouse or by key."""

from __future__ import annotations

from typing import ClassVar

from rich.segment import Segment
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget

from tui.widgets.charts.figure import Plot, x_range
from tui.widgets.charts.palette import chart_styles
from tui.widgets.charts.panels import compose_panels, x_under


class Chart(Widget, can_focus=True):
    """One chart; its cost depends on its size, not on the number of points."""

    HELP = "Left and right show the values of the curves; 1 to 4 show only one chart; escape goes back."

    DEFAULT_CSS = """
    Chart {
        height: 1fr;
        background: $surface;
        padding: 0 1 0 1;
    }
    Chart:focus { background: $surface-lighten-1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "read(-1)", "read left", show=False),
        Binding("right", "read(1)", "read right", show=False),
        Binding("escape", "release", "leave", show=False),
    ]

    plot: reactive[Plot] = reactive(Plot(""))
    cursor: reactive[float | None] = reactive(None)

    class CursorMoved(Message):
        """The crosshair moved to an x value, or was removed (None)."""

        def __init__(self, chart: Chart, x: float | None) -> None:
            super().__init__()
            self.chart = chart
            self.x = x

        def can_replace(self, message: Message) -> bool:
            """Only the newest position counts."""
            return isinstance(message, Chart.CursorMoved)

    def __init__(self, plot: Plot, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._strips: list[Strip] = []
        self._drawn: tuple[object, ...] = ()
        self.set_reactive(Chart.plot, plot)

    def render_line(self, y: int) -> Strip:
        """Return one row; all rows are redrawn when anything they depend on has changed."""
        background = self.background_colors[1]
        key = (self.plot, self.cursor, self.size, self.app.theme, background)
        if len(self._drawn) != len(key) or any(
            new is not old and (index == 0 or new != old)
            for index, (new, old) in enumerate(zip(key, self._drawn, strict=True))
        ):
            self._drawn = key
            self._strips = self._draw()
        if y < len(self._strips):
            return self._strips[y]
        return Strip.blank(self.size.width, self.rich_style)

    def _draw(self) -> list[Strip]:
        styles = chart_styles(
            self.app.theme_variables, self.background_colors[1], dark=self.app.current_theme.dark
        )
        width, height = self.size
        rows = compose_panels(self.plot, (width, height), cursor=self.cursor)
        return [Strip([Segment(text, styles[role]) for text, role in row], width) for row in rows]

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Show the values under the mouse."""
        offset = event.get_content_offset(self)
        x = None
        if offset is not None:
            x = x_under(self.plot, self.size, column=offset.x, row=offset.y)
        self.post_message(self.CursorMoved(self, x))

    def on_leave(self, event: events.Leave) -> None:
        """Remove the crosshair when the mouse leaves."""
        self.post_message(self.CursorMoved(self, None))

    def action_read(self, direction: int) -> None:
        """Move the crosshair by a cell; it starts at the newest point."""
        lines = [line for line in self.plot.lines if len(line.x)]
        if not lines:
            return
        first, last = self.plot.x_range or x_range(lines)
        step = (last - first) / max(1, self.size.width - 8)
        here = last + step if self.cursor is None and direction < 0 else self.cursor
        x = min(last, max(first, (last if here is None else here) + direction * step))
        self.post_message(self.CursorMoved(self, x))

    def action_release(self) -> None:
        """Remove the crosshair; without one, leave the chart for the first pane, whose keys then work."""
        if self.cursor is None:
            self.screen.set_focus(next(iter(self.screen.focus_chain), None))
        self.post_message(self.CursorMoved(self, None))
