"""The help screen: all keys of the dashboard, and how to read it."""

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
        ("↑ ↓", "select a run; charts, metrics and log show the selected run"),
        ("n", "new run: choose a preset, edit it and queue it"),
        ("e", "experiments: review the plan of a sweep, queue its runs"),
        ("s", "stop the run; it saves a checkpoint, from which r resumes"),
        ("r", "resume a stopped or failed run"),
        ("R", "resume it from an older checkpoint, chosen from a list"),
        ("d", "remove the run and its files, after confirmation"),
        ("K J", "move a queued run up or down the queue"),
        ("f", "follow: always select the active run"),
        ("w", "start or stop the worker"),
    )),
    ("Compare", (
        ("space", "mark the run: marked runs share the charts"),
        ("C", "compare the marked runs, or the experiment of the selected run"),
        ("c", "clear the marks"),
        ("x", "horizontal axis: updates, items, epochs, audio time, train time"),
        ("y", "vertical axis of the loss: linear or logarithmic"),
        ("a", "average noisy curves: lightly, strongly, not at all"),
        ("m", "metric of the second chart: the next one of the selected run"),
    )),
    ("View", (
        ("1 2 3 4", "show only one chart; the same key shows all again"),
        ("l", "show only the log; the same key shows all again"),
        ("v", "events of the run: skipped updates, damaged checkpoints, out of memory"),
        ("h", "what the judge of a voice or codec heard in the clips of the run"),
        ("tab", "next pane; in a chart, ← → or the mouse show values"),
        ("ctrl+p", "command palette: all actions by name, themes"),
        ("q", "quit; workers and runs continue without the dashboard"),
    )),
)  # fmt: skip
NOTES = (
    "SI-SDR is the mean over the validation items in dB (higher is better); WER is the word error rate "
    "in speech recognition (lower is better). EMA: exponential moving average of the weights. Gain: the "
    "better of raw and EMA, minus the unprocessed input (dotted line). The shaded band spans minimum to "
    "maximum of the updates in a column; the line is a centred mean, and the numbers are the values themselves. "
    "Dotted in the colour of training: training items, evaluated as validation items are. A gap between the two that "
    "grows is over-fitting. "
    "A loss that is a sum of others (a voice: mel and text) is drawn as these, one below the other, the total last and "
    "faint; the line under the first says which one matters. "
    "Runs whose values don't mean the same (another loss, other labels or masks) share no axis: they get panels "
    "of their own, or are named in a note."
)


class HelpScreen(BoxScreen[None]):
    """Shows the keys; Escape, q, ? or Enter closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark,enter", "dismiss", "close"),
    ]

    def compose(self) -> ComposeResult:
        """Lay out the keys by purpose."""
        with VerticalScroll() as box:
            box.border_title = "sepdash"
            box.border_subtitle = "Esc: close"
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
