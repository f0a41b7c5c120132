"""Shows how a config is batched, computed in a child process."""

from __future__ import annotations

from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import Static

from engine.config.schema import RunConfig
from jobs.home import Home
from tui.dialogs.box import BoxScreen
from tui.live.actions import Failed, attempt
from tui.reports.batch_plan import plan_report, report_lines


class BatchPlanScreen(BoxScreen[None]):
    """The report of a batch plan; Escape closes it, even while planning."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,enter", "dismiss", "close")]

    def __init__(self, home: Home, config: RunConfig) -> None:
        super().__init__()
        self._home = home
        self._config = config

    def compose(self) -> ComposeResult:
        """Lay out a box that grows with the report."""
        with VerticalScroll() as box:
            box.border_title = "batches"
            box.border_subtitle = "Esc: close"
            yield Static("reading item lengths of the training data ...", id="plan", markup=False)

    def on_mount(self) -> None:
        """Start planning."""
        self._plan()

    @work(thread=True, exclusive=True)
    def _plan(self) -> None:
        found = attempt(self._home, lambda: "\n".join(report_lines(plan_report(self._config))))
        text = found.text if isinstance(found, Failed) else found
        self.app.call_from_thread(self._show, text)

    def _show(self, text: str) -> None:
        if self.is_mounted:
            self.query_one("#plan", Static).update(text)
