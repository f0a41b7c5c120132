"""The end of a run's log; stays at the end until scrolled up."""

from __future__ import annotations

from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.geometry import Size
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

_LEVELS = {"error": "error", "warning": "warning", "Traceback": "error"}


class LogTail(ScrollView, can_focus=True):
    """Shows lines that the feed has cleaned of control characters."""

    HELP = "The log of the chosen run. Scroll up to read; end goes back to following it. l enlarges it."

    DEFAULT_CSS = """
    LogTail {
        background: $surface;
        overflow-x: hidden;
        overflow-y: auto;
        scrollbar-size-vertical: 1;
        padding: 0 1;
    }
    """

    lines: reactive[tuple[str, ...]] = reactive(())
    empty: reactive[str] = reactive("")

    def watch_lines(self, old: tuple[str, ...]) -> None:
        """Follow the end, unless the person has scrolled up."""
        at_end = self.is_vertical_scroll_end or not old
        self.virtual_size = Size(self.size.width, len(self.lines))
        if at_end:
            self.scroll_end(animate=False)
        self.refresh()

    def on_resize(self) -> None:
        """Go to the end: the newest lines matter most."""
        self.virtual_size = Size(self.size.width, len(self.lines))
        self.scroll_end(animate=False)

    def render_line(self, y: int) -> Strip:
        """Return one line of the log."""
        base = self.rich_style
        width = self.size.width
        index = y + self.scroll_offset.y
        if not self.lines:
            text, share = (self.empty if y == 0 else ""), 0.45
        elif index < len(self.lines):
            text, share = self.lines[index], 0.22
        else:
            return Strip.blank(width, base)
        style = base + Style(color=self._colour(text, share))
        return Strip([Segment(text, style)]).adjust_cell_length(width, base)

    def _colour(self, text: str, share: float) -> str:
        variables = self.app.theme_variables
        for word, name in _LEVELS.items():
            if word in text[:40]:
                return Color.parse(variables[name]).hex6
        return Color.parse(variables["foreground"]).blend(self.background_colors[1], share).hex6
