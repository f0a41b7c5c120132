"""Compares runs on the dashboard: the tables of `sepdash compare`, computed in a thread.

`jobs.comparison` loads scipy, so it is imported there only.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.message import Message
from textual.widgets import Static

from engine.config.errors import counted
from jobs.home import Home
from jobs.store.records import RunRecord
from tui.dialogs.box import BoxScreen
from tui.live.actions import perform
from tui.reports import comparison as words
from tui.reports.formats import clean

if TYPE_CHECKING:
    from jobs.comparison.evaluations import Clock, When
    from jobs.comparison.result import Comparison

CLOCKS: tuple[Clock, ...] = ("items", "updates", "epochs", "wall_clock")
NOTHING = "Mark two runs with space, or select a run of an experiment."
_VERDICTS = {
    "better": "success",
    "worse": "error",
    "equivalent": "accent",
    "undecided": "warning",
    "models differ": "accent",
    "models equivalent": "accent",
    "not comparable": "warning",
}


class ComparisonScreen(BoxScreen[None]):
    """Shows which variant is better, by how much, and what limits the answer; the first run is the reference."""

    DEFAULT_CSS = """
    ComparisonScreen > VerticalScroll {
        width: 132; max-width: 100%; max-height: 100%; padding: 0 1; scrollbar-gutter: stable;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,C,enter", "dismiss", "close"),
        Binding("x", "clock", "clock"),
        Binding("b", "when", "best or final"),
    ]

    class Compared(Message):
        """The comparison that was asked for, or why there is none."""

        def __init__(
            self, asked: tuple[Clock, When], comparison: Comparison | None, *, problem: str
        ) -> None:
            super().__init__()
            self.asked = asked
            self.comparison = comparison
            self.problem = problem

    def __init__(
        self, home: Home, runs: Sequence[RunRecord], *, title: str, remark: str = ""
    ) -> None:
        super().__init__()
        self._home = home
        self._runs = tuple(runs)
        self._title = title
        self._remark = remark
        self._asked: tuple[Clock, When] = ("items", "best")
        self._comparison: Comparison | None = None

    def compose(self) -> ComposeResult:
        """Lay out the box."""
        with VerticalScroll() as box:
            box.border_title = self._title
            box.border_subtitle = "x: progress in items, updates ...  b: best or final  Esc: close"
            yield Static(markup=False)

    def on_mount(self) -> None:
        """Compare."""
        self._ask(*self._asked)

    def on_resize(self) -> None:
        """Lay the tables out for the new width."""
        self.call_after_refresh(self._show)

    def action_clock(self) -> None:
        """Compare at equal progress on the next clock."""
        by, when = self._asked
        self._ask(CLOCKS[(CLOCKS.index(by) + 1) % len(CLOCKS)], when)

    def action_when(self) -> None:
        """Compare the last evaluations instead of the best ones, or the best ones again."""
        by, when = self._asked
        self._ask(by, "final" if when == "best" else "best")

    def _ask(self, by: Clock, when: When) -> None:
        self._asked = (by, when)
        self.query_one(Static).update("comparing ...")
        self.run_worker(partial(self._compare, self._asked), thread=True, group="comparison")

    def _compare(self, asked: tuple[Clock, When]) -> None:
        from jobs.comparison.compare import compare
        from jobs.store.reader import StoreReader

        made: list[Comparison] = []

        def make() -> str:
            with StoreReader(self._home.store) as reader:
                made.append(compare(reader, self._runs, by=asked[0], when=asked[1]))
            return ""

        ended = perform(self._home, make)
        self.post_message(self.Compared(asked, made[0] if made else None, problem=ended.text))

    @on(Compared)
    def _take(self, message: Compared) -> None:
        if message.asked != self._asked:
            return
        self._comparison = message.comparison
        if message.comparison is None:
            self.query_one(Static).update(Text(clean(message.problem)))
        self._show()

    def _show(self) -> None:
        if self._comparison is None or not self.is_mounted:
            return
        box = self.query_one(VerticalScroll)
        lines = words.lines(self._comparison, width=box.scrollable_content_region.width)
        text = Text("\n").join(map(self._styled, lines))
        if self._remark:
            text.append(f"\n\n{self._remark}", style=self.app.theme_variables["secondary"])
        self.query_one(Static).update(text)

    def _styled(self, line: words.Line) -> Text:
        colours = self.app.theme_variables
        style = {
            "heading": f"bold {colours['primary']}", "header": colours["secondary"],
            "note": colours["secondary"], "remark": colours["secondary"], "title": "bold",
        }.get(line.role, "")  # fmt: skip
        text = Text(line.text, style=style, no_wrap=True)
        if line.role == "row":
            verdict = next((v for v in _VERDICTS if line.text.endswith(f"  {v}")), None)
            if verdict is not None:
                text.stylize(colours[_VERDICTS[verdict]], len(line.text) - len(verdict))
        return text


def open_comparison(
    home: Home, runs: Sequence[RunRecord], *, marks: Sequence[int], selected: int | None
) -> ComparisonScreen | None:
    """Return a screen that compares marked runs, or else the experiment of the selected run.

    One mark goes with the selected run. The first marked run is the reference. None without two runs.
    """
    known = {run.id: run for run in runs}
    chosen = list(dict.fromkeys([*marks, *([selected] if len(marks) == 1 else [])]))
    named = [known[run] for run in chosen if run in known]
    if len(named) > 1:
        return ComparisonScreen(home, named, title=f"comparison of {counted(len(named), 'run')}")
    experiment = known[selected].experiment if selected in known else ""
    if not experiment:
        return None
    mine, failed = words.of_experiment(runs, experiment)
    if not mine:
        return None
    remark = f"failed runs are left out: {', '.join(clean(run.name) for run in failed)}"
    return ComparisonScreen(
        home, mine, title=f"comparison of {clean(experiment)}", remark=remark if failed else ""
    )
