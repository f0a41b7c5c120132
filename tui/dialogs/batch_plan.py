"""Shows how a config is batched, computed in a child process."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType

from engine.config.schema import RunConfig
from jobs.home import Home
from tui.dialogs.reading import ReadingScreen
from tui.reports.batch_plan import plan_report, report_lines


class BatchPlanScreen(ReadingScreen[None, str]):
    """The report of a batch plan; Escape closes it, even while planning."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,enter", "dismiss", "close")]

    waiting = "reading item lengths of the training data ..."

    def __init__(self, home: Home, config: RunConfig) -> None:
        super().__init__(home)
        self._config = config

    def _box_title(self) -> str:
        return "batches"

    def _read(self) -> str:
        return "\n".join(report_lines(plan_report(self._config)))

    def _show(self, found: str) -> None:
        self._say(found)
