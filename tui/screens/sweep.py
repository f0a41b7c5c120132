"""The sweep screen: choose an experiment, review its plan, queue its runs.

`jobs.sweeps` interprets experiments and loads the config schema, so it is imported in thread
workers only.
"""

from __future__ import annotations

import shlex
import time
from dataclasses import dataclass
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
from tui.reports import night
from tui.reports import search as search_report
from tui.reports import sweep as sweep_plan

if TYPE_CHECKING:
    from jobs.sweeps.prepare import Sweep

# From this width on, the list is beside the plan, and runs are shown with their full names.
_WIDE = 110


@dataclass(frozen=True, slots=True)
class Asked:
    """What a plan was made for: an experiment, and the texts of the two fields."""

    experiment: str
    settings: str
    until: str


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

        def __init__(self, asked: Asked, plan: Sweep | None, problem: str = "") -> None:
            super().__init__()
            self.asked = asked
            self.plan = plan
            self.problem = problem

    def __init__(self, home: Home) -> None:
        super().__init__()
        self._home = home
        self._files = ExperimentFiles(home.presets)
        self._asked = Asked("", "", "")
        self._plan: Sweep | None = None

    def compose(self) -> ComposeResult:
        """Lay out the list on the left, settings and plan on the right."""
        infos = self._files.list()
        with Horizontal():
            yield OptionList(*(Option(i.name, id=i.name) for i in infos), id="experiments")
            with Vertical():
                hint = "settings for all runs: data.train=~/speech/train data.valid=~/speech/test"
                yield Input(placeholder=hint, id="settings", compact=True)
                night = "queue only what ends by then: 07:30, or 9 hours"
                yield Input(placeholder=night, id="until", compact=True)
                with VerticalScroll():
                    yield Static(id="plan", markup=False)
        yield Static(
            "^r queue  tab settings, until  enter update plan  esc back", id="keys", markup=False
        )

    @on(OptionList.OptionHighlighted)
    @on(Input.Submitted)
    def _ask(self) -> None:
        option = self.query_one(OptionList).highlighted_option
        if option is None or option.id is None:
            return
        settings, until = (
            self.query_one(f"#{name}", Input).value for name in ("settings", "until")
        )
        self._asked = Asked(option.id, settings, until)
        self._plan = None
        self.query_one("#plan", Static).update("planning ...")
        self.run_worker(partial(self._make, self._asked), thread=True, group="plan")

    def _make(self, asked: Asked) -> None:
        from jobs.sweeps.deadline import parse_deadline
        from jobs.sweeps.prepare import Wish, prepare_sweep

        plans: list[Sweep] = []

        def make() -> str:
            name, values = self._files.read(asked.experiment)
            words = tuple(shlex.split(asked.settings))
            until = asked.until.strip()
            if until and "search" in values:
                raise ValueError("a search has no end time; clear the second field")
            deadline = parse_deadline(until, now=time.time()) if until else None
            wish = Wish(assignments=words, deadline=deadline, rest=True)
            plans.append(
                prepare_sweep(self._home, name, values=values, wish=wish, echo=lambda text: None)
            )
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
        if plan.whole.experiment.search is not None:
            shown.update(Text("\n".join(search_report.plan_lines(plan.whole))))
            return
        table = Table(*sweep_plan.HEADERS, box=None, pad_edge=False)
        for column in table.columns[1:]:
            column.justify, column.no_wrap = "right", True
        wide = self.size.width >= _WIDE
        for item, row in zip(plan.runs, sweep_plan.rows(plan), strict=True):
            table.add_row(row[0] if wide else item.run.variant, *row[1:])
        lines = night.before(plan)
        if plan.runs:
            lines.append(sweep_plan.totals(plan.plan, self._home))
        else:
            lines.append(night.nothing_fits(plan))
        asked = message.asked
        lines += night.after(plan, asked.experiment, assignments=shlex.split(asked.settings))
        lines += sweep_plan.warnings(plan.plan) + sweep_plan.probe_warnings(plan.plan)
        shown.update(Group(Text(sweep_plan.headline(plan)), table, Text("\n".join(lines))))

    def action_queue(self) -> None:
        """Queue the runs of the plan, after confirmation."""
        plan = self._plan
        if plan is None:
            self.notify("No plan to queue yet.", severity="warning")
            return
        search = plan.whole.experiment.search
        if not plan.runs and search is None:
            self.notify(night.nothing_fits(plan), severity="warning", markup=False)
            return
        runs = counted(len(plan.runs), "run")
        question = f"Queue {runs} of {plan.whole.name}?"
        verb = "Queue"
        if search is not None:
            question = f"Search {plan.whole.name} in {counted(search.trials, 'trial')}?"
            verb = "Search"

        def answered(yes: bool | None) -> None:
            if yes:
                self.run_worker(partial(self._queue, plan), thread=True, group="actions")

        self.app.push_screen(ConfirmScreen(question, verb=verb), answered)

    def _queue(self, sweep: Sweep) -> None:
        from jobs.searches.control import start
        from jobs.sweeps.plan import queue_sweep

        def queue() -> str:
            if sweep.whole.experiment.search is not None:
                return start(self._home, sweep.whole)
            ids = queue_sweep(self._home, sweep.plan)
            which = f"{ids[0]} to {ids[-1]}" if len(ids) > 1 else str(ids[0])
            return f"{counted(len(ids), 'run')} queued: {which}"

        self.post_message(perform(self._home, queue))

    @on(ActionEnded)
    def _tell(self, message: ActionEnded) -> None:
        self.app.notify(
            message.text, severity="error" if message.failed else "information", markup=False
        )
        if not message.failed:
            self.dismiss(True)
