"""The sweep screen: choose an experiment, review its plan, queue its runs.

`jobs.sweeps` interprets experiments and loads the config schema, so it is imported in thread
workers only.
"""

from __future__ import annotations

import shlex
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from rich.console import Group
from rich.table import Table
from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.message import Message
from textual.screen import Screen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from engine.config.errors import counted
from jobs.home import Home
from presets.experiment_files import ExperimentFiles
from tui.dialogs.confirm import ConfirmScreen
from tui.live.actions import perform
from tui.live.messages import ActionEnded
from tui.reports import sweep as sweep_plan

if TYPE_CHECKING:
    from jobs.sweeps.plan import Plan

# From this width on, the list is beside the plan, and runs are shown with their full names.
_WIDE = 110


class SweepScreen(Screen[bool]):
    """Returns whether runs were queued."""

    TITLE = "Sweep"
    HORIZONTAL_BREAKPOINTS: list[tuple[int, str]] | None = [  # noqa: RUF012
        (0, "-narrow"),
        (_WIDE, "-wide"),
    ]
    DEFAULT_CSS = """
    SweepScreen Horizontal { height: 1fr; }
    SweepScreen #experiments { width: 30; height: 1fr; }
    SweepScreen Vertical { width: 1fr; padding: 0 1; }
    SweepScreen.-narrow Horizontal { layout: vertical; }
    SweepScreen.-narrow #experiments { width: 1fr; height: 8; }
    SweepScreen.-narrow Vertical { height: 1fr; }
    SweepScreen #keys { height: 1; padding: 0 1; color: $text-muted; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+r", "queue", "Queue", key_display="^r", priority=True),
        Binding("escape", "dismiss(False)", "Back"),
    ]

    class Planned(Message):
        """The plan of an experiment, or the reason why planning failed."""

        def __init__(self, asked: tuple[str, str], plan: Plan | None, problem: str = "") -> None:
            super().__init__()
            self.asked = asked
            self.plan = plan
            self.problem = problem

    def __init__(self, home: Home) -> None:
        super().__init__()
        self._home = home
        self._files = ExperimentFiles(home.presets)
        self._asked = ("", "")
        self._plan: Plan | None = None

    def compose(self) -> ComposeResult:
        """Lay out the list on the left, settings and plan on the right."""
        infos = self._files.list()
        with Horizontal():
            yield OptionList(*(Option(i.name, id=i.name) for i in infos), id="experiments")
            with Vertical():
                hint = "settings for all runs: data.train=~/speech/train data.valid=~/speech/test"
                yield Input(placeholder=hint, id="settings", compact=True)
                with VerticalScroll():
                    yield Static(id="plan", markup=False)
        yield Static("^r queue  tab settings  enter update plan  esc back", id="keys", markup=False)

    @on(OptionList.OptionHighlighted)
    @on(Input.Submitted)
    def _ask(self) -> None:
        option = self.query_one(OptionList).highlighted_option
        if option is None or option.id is None:
            return
        self._asked = (option.id, self.query_one(Input).value)
        self._plan = None
        self.query_one("#plan", Static).update("planning ...")
        self.run_worker(partial(self._make, self._asked), thread=True, group="plan")

    def _make(self, asked: tuple[str, str]) -> None:
        from jobs.store.reader import StoreReader
        from jobs.sweeps.measured import Measured
        from jobs.sweeps.plan import plan_sweep
        from presets.catalogue import Catalogue

        plans: list[Plan] = []

        def make() -> str:
            name, values = self._files.read(asked[0])
            with StoreReader(self._home.store) as reader:
                measured = Measured.of(reader)
            catalogue = Catalogue(self._home.presets)
            words = shlex.split(asked[1])
            plans.append(plan_sweep(name, values, catalogue, assignments=words, measured=measured))
            return ""

        ended = perform(self._home, make)
        self.post_message(self.Planned(asked, plans[0] if plans else None, ended.text))

    @on(Planned)
    def _show(self, message: Planned) -> None:
        if message.asked != self._asked:
            return
        self._plan = plan = message.plan
        shown = self.query_one("#plan", Static)
        if plan is None:
            shown.update(Text(message.problem))
            return
        table = Table(*sweep_plan.HEADERS, box=None, pad_edge=False)
        for column in table.columns[1:]:
            column.justify, column.no_wrap = "right", True
        wide = self.size.width >= _WIDE
        for run, row in zip(plan.runs, sweep_plan.rows(plan), strict=True):
            table.add_row(row[0] if wide else run.variant, *row[1:])
        lines = [sweep_plan.totals(plan, self._home), *sweep_plan.warnings(plan)]
        shown.update(Group(Text(sweep_plan.headline(plan)), table, Text("\n".join(lines))))

    def action_queue(self) -> None:
        """Queue the runs of the plan, after confirmation."""
        plan = self._plan
        if plan is None:
            self.notify("No plan to queue yet.", severity="warning")
            return
        runs = counted(len(plan.runs), "run")

        def answered(yes: bool | None) -> None:
            if yes:
                self.run_worker(partial(self._queue, plan), thread=True, group="actions")

        self.app.push_screen(ConfirmScreen(f"Queue {runs} of {plan.name}?", verb="Queue"), answered)

    def _queue(self, plan: Plan) -> None:
        from jobs.sweeps.plan import queue_sweep

        def queue() -> str:
            ids = queue_sweep(self._home, plan)
            return f"{counted(len(ids), 'run')} queued: {ids[0]} to {ids[-1]}"

        self.post_message(perform(self._home, queue))

    @on(ActionEnded)
    def _tell(self, message: ActionEnded) -> None:
        self.app.notify(
            message.text, severity="error" if message.failed else "information", markup=False
        )
        if not message.failed:
            self.dismiss(True)
