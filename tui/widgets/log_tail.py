"""The end of a run's log; follows the end unless scrolled up."""

from __future__ import annotations

from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.geometry import Size
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui.reports.formats import cells, fitting

_INDENT = " " * 10
_LEVELS = {"error": "error", "warning": "warning", "Traceback": "error"}


class LogTail(ScrollView, can_focus=True):
    """Shows log lines from which the feed has removed control characters."""

    HELP = "The log of the selected run. Scroll up to read; End follows it again; l shows only the log."

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

    def __init__(self) -> None:
        super().__init__()
        self._rows: list[tuple[str, int]] = []

    def watch_lines(self, old: tuple[str, ...]) -> None:
        """Follow the end, unless the user has scrolled up."""
        self._wrap(to_end=self.is_vertical_scroll_end or not old)

    def on_resize(self) -> None:
        """Go to the end: the newest lines matter most."""
        self._wrap(to_end=True)

    def _wrap(self, *, to_end: bool) -> None:
        width = self.scrollable_content_region.width
        self._rows = [
            (row, index) for index, line in enumerate(self.lines) for row in wrap(line, width)
        ]
        self.virtual_size = Size(width, len(self._rows))
        if to_end:
            self.scroll_end(animate=False)
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """Return one row of the log."""
        base = self.rich_style
        width = self.size.width
        index = y + self.scroll_offset.y
        if not self._rows:
            text, share, whole = (self.empty if y == 0 else ""), 0.45, ""
        elif index < len(self._rows):
            text, line = self._rows[index]
            share, whole = 0.22, self.lines[line]
        else:
            return Strip.blank(width, base)
        style = base + Style(color=self._colour(whole, share))
        return Strip([Segment(text, style)]).adjust_cell_length(width, base)

    def _colour(self, text: str, share: float) -> str:
        variables = self.app.theme_variables
        for word, name in _LEVELS.items():
            if word in text[:40]:
                return Color.parse(variables[name]).hex6
        return Color.parse(variables["foreground"]).blend(self.background_colors[1], share).hex6


def wrap(line: str, width: int) -> list[str]:
    """Return the rows of a line of text, broken at spaces; those after the first are indented."""
    rows, indent = [], ""
    while len(indent) + cells(line) > width > len(_INDENT) + 8:
        room = fitting(line, width - len(indent))
        cut = line.rfind(" ", room // 2, room + 1)
        cut = room if cut < 0 else cut
        rows.append(indent + line[:cut])
        line, indent = line[cut:].lstrip(), _INDENT
    return [*rows, indent + line]
