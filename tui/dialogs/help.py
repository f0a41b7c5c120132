"""The help screen: every key of the dashboard, and how to read what it shows."""

from __future__ import annotations

from typing import ClassVar

from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import Static

from tui.dialogs.box import BoxScreen

KEYS: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    ("Runs", (
        ("↑ ↓", "choose a run; charts, figures and log are its own"),
        ("n", "new run: choose a preset, edit it, queue it"),
        ("e", "experiments: look at the plan of a sweep, queue its runs"),
        ("s", "stop the run; it saves a checkpoint, so r goes on from there"),
        ("r", "resume a stopped or failed run"),
        ("d", "remove the run and its files (asks first)"),
        ("K J", "move a queued run up or down the queue"),
        ("f", "follow: choose whichever run is running"),
        ("w", "start a worker, or stop the one that works"),
    )),
    ("Compare", (
        ("space", "mark the run: marked runs share the charts"),
        ("c", "clear the marks"),
        ("x", "horizontal axis: updates, items, epochs, audio time, train time"),
        ("y", "vertical axis of the loss: linear or logarithmic"),
    )),
    ("Look closer", (
        ("1 2 3 4", "one chart alone; the same key goes back"),
        ("l", "the log alone; the same key goes back"),
        ("v", "events of the run: skipped updates, broken checkpoints, short memory"),
        ("tab", "next pane; in a chart ← → read the values, so does the mouse"),
        ("ctrl+p", "command palette: every action by name, themes"),
        ("q", "quit; workers and runs go on without the dashboard"),
    )),
)  # fmt: skip
NOTES = (
    "SI-SDR is the mean over the validation items in dB, higher is better; WER, of speech recognition, "
    "is the share of wrong words, lower is better. EMA is the averaged weights; gain is the better of "
    "both over the unprocessed input (dotted). A shaded band is the lowest to the highest value of the "
    "updates that share a column, the line a running mean."
)


class HelpScreen(BoxScreen[None]):
    """Shows the keys; any of the usual keys closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark,enter", "dismiss", "close"),
    ]

    def compose(self) -> ComposeResult:
        """Lay out the keys by what they are for."""
        with VerticalScroll() as box:
            box.border_title = "sepdash"
            box.border_subtitle = "esc closes"
            yield Static(self._table())

    def _table(self) -> Table:
        colours = self.app.theme_variables
        table = Table.grid(padding=(0, 2))
        table.add_column(justify="right", no_wrap=True, style=colours["accent"])
        table.add_column()
        for title, keys in KEYS:
            table.add_row("", Text(title, style=f"bold {colours['primary']}"))
            for key, meaning in keys:
                table.add_row(key, meaning)
        table.add_row("", "")
        table.add_row("", Text(NOTES, style=colours["secondary"]))
        return table
