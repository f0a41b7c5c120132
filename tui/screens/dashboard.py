"""The dashboard: runs, charts, metrics and log on one screen.

The screen owns what is shown (selection, marks, axes). The feed posts data as messages; user actions
run through `tui.live.actions` in thread workers, and their results return as messages.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import ClassVar, Literal

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.screen import Screen
from textual.widgets import Footer
from textual.worker import get_current_worker

from jobs.home import Home
from jobs.store.records import RunRecord
from tui.live import actions
from tui.live.feed import Feed, Reader, Watch
from tui.live.marks import Marks
from tui.live.messages import (
    ActionEnded,
    ChartsChanged,
    FeedFailed,
    LogChanged,
    MachineSampled,
    RunData,
    RunsChanged,
)
from tui.widgets.charts import build as charts
from tui.widgets.charts.figure import PALETTE_SIZE
from tui.widgets.charts.grid import ChartsGrid
from tui.widgets.charts.view import View
from tui.widgets.log_tail import LogTail
from tui.widgets.run_line import RunLine
from tui.widgets.runs_table import RunsTable
from tui.widgets.status_line import StatusLine


class Dashboard(Screen[None]):
    """Runs on the left or on top; charts, metrics and log of the selected run beside them."""

    HORIZONTAL_BREAKPOINTS: list[tuple[int, str]] | None = [(0, "-narrow"), (150, "-wide")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS: list[tuple[int, str]] | None = [(0, "-short"), (34, "-tall")]  # noqa: RUF012
    DEFAULT_CSS = """
    Dashboard #body { height: 1fr; layout: vertical; background: $background; }
    Dashboard RunsTable { height: 6; }
    Dashboard ChartsGrid { height: 1fr; }
    Dashboard LogTail { height: 3; } Dashboard Footer { padding: 0 1; }
    Dashboard.-tall RunsTable { height: auto; min-height: 6; max-height: 30%; }
    Dashboard.-tall LogTail { height: 20%; }
    Dashboard.-tall ChartsGrid { grid-gutter: 1 1; margin: 1 0; }
    Dashboard.-wide #body {
        layout: grid; grid-size: 2 3; grid-columns: 88 1fr; grid-rows: auto 1 1fr; grid-gutter: 0 1; }
    Dashboard.-wide RunsTable { height: auto; min-height: 10; max-height: 26; }
    Dashboard.-wide LogTail { height: 1fr; }
    Dashboard.-wide ChartsGrid { row-span: 3; height: 1fr; margin: 0; }
    Dashboard.-log #body { layout: vertical; }
    Dashboard.-log RunsTable, Dashboard.-log ChartsGrid { display: none; }
    Dashboard.-log LogTail { height: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "new", "new", tooltip="Choose a preset, edit it and queue it"),
        Binding("e", "sweep", "sweep", show=False),
        Binding("s", "stop", "stop", tooltip="Save a checkpoint and stop the run"),
        Binding("r", "resume", "resume", tooltip="Queue the run again from its last checkpoint"),
        Binding("R", "resume_from", "resume from", show=False),
        Binding("d,delete", "remove", "remove", key_display="d"),
        Binding("K,shift+up", "move('up')", "move up", show=False),
        Binding("J,shift+down", "move('down')", "move down", show=False),
        Binding("space", "mark", "mark", key_display="space"),
        Binding("c", "clear", "clear marks", show=False),
        Binding("C", "compare", "compare", key_display="C"),
        Binding("f", "follow", "follow", show=False),
        Binding("w", "worker", "worker"),
        Binding("x", "clock", "axis", show=False),
        Binding("y", "log_scale", "log scale", show=False),
        Binding("a", "smooth", "smoothing", show=False),
        Binding("m", "metric", "metric", show=False),
        Binding("l", "log", "log", show=False),
        Binding("v", "read('events')", "events", show=False),
        Binding("h", "read('heard')", "what the judge heard", show=False),
        Binding("1", "alone(0)", "loss", show=False),
        Binding("2", "alone(1)", "score", show=False),
        Binding("3", "alone(2)", "throughput", show=False),
        Binding("4", "alone(3)", "memory", show=False),
        Binding("question_mark", "help", "help", key_display="?"),
        Binding("q", "app.quit", "quit"),
    ]

    def __init__(
        self,
        home: Home,
        open_reader: Callable[[], Reader],
        *,
        select: Sequence[int] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__()
        self._home = home
        self._clock = clock
        self._feed = Feed(home, open_reader, post=self.post_message, clock=clock)
        self._runs: tuple[RunRecord, ...] = ()
        self._data: tuple[RunData, ...] = ()
        self._selected: int | None = select[0] if select else None
        self._marks = Marks(select if len(select) > 1 else (), most=PALETTE_SIZE - 1)
        self._follow = not select
        self._view = View()

    def compose(self) -> ComposeResult:
        """Lay out the panes; their position depends on the terminal size."""
        yield StatusLine()
        with Container(id="body"):
            yield RunsTable(clock=self._clock)
            yield ChartsGrid()
            yield RunLine()
            yield LogTail()
        yield Footer(show_command_palette=False, compact=True)

    def on_mount(self) -> None:
        """Start the feed."""
        self._feed.watch(self._watched())
        self.query_one(RunsTable).focus()
        self.run_worker(self._listen, thread=True, group="feed", name="feed")

    def _listen(self) -> None:
        app, worker = self.app, get_current_worker()
        # An app that fails during start-up cancels no worker, but its process must still exit.
        self._feed.run(lambda: worker.is_cancelled or not app.is_running)

    def on_unmount(self) -> None:
        """Close the feed, so that its thread ends."""
        self._feed.close()

    # Messages from the feed

    @on(RunsChanged)
    def _take_runs(self, message: RunsChanged) -> None:
        old = self.query_one(RunsTable).cursor_row
        self._runs = message.runs
        known = {run.id for run in self._runs}
        running = next((run.id for run in self._runs if run.state == "running"), None)
        self._marks.keep(known)
        if self._follow and running is not None:
            self._selected = running
        elif self._selected not in known:
            row = min(old, len(self._runs) - 1)
            self._selected = self._runs[row].id if self._runs else None
        status = self.query_one(StatusLine)
        status.problem = ""
        status.run_records, status.crew = message.runs, message.workers
        self._show_choice()

    @on(MachineSampled)
    def _take_sample(self, message: MachineSampled) -> None:
        self.query_one(StatusLine).sample = message.sample

    @on(ChartsChanged)
    def _take_charts(self, message: ChartsChanged) -> None:
        if message.data and message.data[0].run.id != self._selected:
            return
        self._data = message.data
        self._draw()

    @on(LogChanged)
    def _take_log(self, message: LogChanged) -> None:
        if message.run == self._selected:
            tail = self.query_one(LogTail)
            tail.empty = self._why_no_log()
            tail.lines = message.lines

    def _why_no_log(self) -> str:
        run = self.chosen
        return f"no log yet: {run.waiting or 'the run has not started'}" if run else ""

    @on(FeedFailed)
    def _take_failure(self, message: FeedFailed) -> None:
        self.query_one(StatusLine).problem = message.reason

    @on(ActionEnded)
    def _take_answer(self, message: ActionEnded) -> None:
        self._feed.wake()
        if message.text:
            self.notify(
                message.text,
                severity="error" if message.failed else "information",
                markup=False,
                timeout=8 if message.failed else 4,
            )

    @on(RunsTable.Selected)
    def _take_choice(self, message: RunsTable.Selected) -> None:
        self._follow = False
        self._selected = message.run
        self._show_choice()

    # Display

    def _watched(self) -> Watch:
        if self._selected is None:
            return Watch(metric=self._view.metric)
        others = (run for run in self._marks.runs if run != self._selected)
        return Watch((self._selected, *others), self._view.metric)

    def _show_choice(self) -> None:
        table = self.query_one(RunsTable)
        table.runs, table.selected = self._runs, self._selected
        table.marks = self._marks.colours(self._selected)
        self.query_one(RunLine).run = self.chosen
        self.query_one(LogTail).empty = self._why_no_log()
        self.query_one(RunLine).others = len(self._watched().runs) - 1 if self._marks.runs else 0
        self._feed.watch(self._watched())

    def _draw(self) -> None:
        colours = self._marks.colours(self._selected)
        self.query_one(ChartsGrid).show(charts.build(self._data, colours, view=self._view))
        line = self.query_one(RunLine)
        line.latest = self._data[0].latest if self._data else {}

    @property
    def chosen(self) -> RunRecord | None:
        """The selected run."""
        return next((run for run in self._runs if run.id == self._selected), None)

    # User actions

    def _perform(self, action: Callable[[], str]) -> None:
        def work() -> None:
            self.post_message(actions.perform(self._home, action))

        self.run_worker(work, thread=True, group="actions")

    def _with_run(self, action: Callable[[Home, RunRecord], str]) -> None:
        if (run := self.chosen) is not None:
            self._perform(partial(action, self._home, run))
        else:
            self.notify("No run selected. Press n to create one.", severity="warning")

    def action_new(self) -> None:
        """Open the preset screen."""
        from tui.screens.preset import PresetScreen

        self.app.push_screen(PresetScreen(self._home))

    def action_sweep(self) -> None:
        """Open the sweep screen."""
        from tui.screens.sweep import SweepScreen

        self.app.push_screen(SweepScreen(self._home), lambda queued: self._feed.wake())

    def action_stop(self) -> None:
        """Stop the selected run."""
        self._with_run(actions.stop)

    def action_resume(self) -> None:
        """Resume the selected run."""
        self._with_run(actions.resume)

    def action_resume_from(self) -> None:
        """Resume the selected run from a checkpoint that is chosen from a list."""
        from tui.dialogs.checkpoints import resume_from

        resume_from(self.app, self._home, run=self.chosen, perform=self._perform)

    def action_remove(self) -> None:
        """Remove the selected run, after confirmation."""
        run = self.chosen
        if run is None:
            return
        if run.state == "running":
            self.notify(f"{run.name} is running. Press s to stop it first.", severity="warning")
            return
        self._ask(
            f"Remove run {run.id} ({run.name}) with its curves, log and checkpoints?",
            "Remove",
            action=partial(actions.remove, self._home, run),
        )

    def _ask(self, question: str, verb: str, *, action: Callable[[], str]) -> None:
        from tui.dialogs.confirm import ConfirmScreen

        def answered(yes: bool | None) -> None:
            if yes:
                self._perform(action)

        self.app.push_screen(ConfirmScreen(question, verb=verb), answered)

    def action_move(self, to: actions.Where) -> None:
        """Move the selected run in the queue."""
        run = self.chosen
        if run is None or run.state != "queued":
            self.notify("Only queued runs can be moved.", severity="warning")
            return
        self._follow = False
        self._perform(partial(actions.move, self._home, run, to))

    def action_worker(self) -> None:
        """Start a worker, or stop all that run, after confirmation."""
        alive = [worker for worker in self.query_one(StatusLine).crew if worker.alive]
        if not alive:
            self.notify("Starting a worker.")
            self._perform(partial(actions.start_worker, self._home))
            return
        what = "the worker" if len(alive) == 1 else f"all {len(alive)} workers"
        is_busy = any(worker.run is not None for worker in alive)
        saved = " Runs in progress are saved and queued again." if is_busy else ""
        self._ask(f"Stop {what}?{saved}", "Stop", action=partial(actions.stop_workers, alive))

    def action_mark(self) -> None:
        """Mark the selected run for comparison, or remove its mark."""
        if self._selected is None:
            return
        if not self._marks.toggle(self._selected):
            self.notify(f"At most {self._marks.most} runs can be compared.", severity="warning")
        self._follow = False
        self._show_choice()
        self._draw()

    def action_clear(self) -> None:
        """Remove all marks."""
        self._marks.clear()
        self._show_choice()
        self._draw()

    def action_compare(self) -> None:
        """Compare the marked runs, or the experiment of the selected run."""
        from tui.dialogs.comparison import NOTHING, open_comparison

        screen = open_comparison(
            self._home, self._runs, marks=self._marks.runs, selected=self._selected
        )
        if screen is None:
            self.notify(NOTHING, severity="warning")
        else:
            self.app.push_screen(screen)

    def action_follow(self) -> None:
        """Switch following the active run on or off."""
        self._follow = not self._follow
        running = next((run.id for run in self._runs if run.state == "running"), None)
        if self._follow and running is not None:
            self._selected = running
            self._show_choice()
        self.notify("Following the active run." if self._follow else "Staying on this run.")

    def action_clock(self) -> None:
        """Switch to the next horizontal axis."""
        self._view = self._view.next_clock()
        self._draw()

    def action_log_scale(self) -> None:
        """Switch the loss between a linear and a logarithmic axis."""
        self._view = replace(self._view, log=not self._view.log)
        self._draw()

    def action_smooth(self) -> None:
        """Switch to the next smoothing of noisy curves."""
        self._view = self._view.next_smoothing()
        self._draw()
        self.notify(f"Smoothing: {self._view.smoothing}.", timeout=2)

    def action_metric(self) -> None:
        """Show the next metric of the selected run in the chart of scores."""
        self._view = replace(self._view, metric=charts.next_metric(self._data, self._view.metric))
        if not self._view.metric:
            self.notify("This run has no other metric yet.", severity="warning")
        self._feed.watch(self._watched())

    def action_alone(self, index: int) -> None:
        """Show only one chart, or all again."""
        self.query_one(ChartsGrid).toggle_alone(index)

    def action_log(self) -> None:
        """Show only the log, or all panes again."""
        self.toggle_class("-log")
        alone = self.has_class("-log")
        self.query_one(LogTail if alone else RunsTable).focus()

    def action_read(self, what: Literal["events", "heard"]) -> None:
        """List the events of the selected run, or what a judge heard in its clips."""
        from tui.dialogs.events import EventsScreen
        from tui.dialogs.heard import HeardScreen

        if (run := self.chosen) is not None:
            screen = EventsScreen if what == "events" else HeardScreen
            self.app.push_screen(screen(self._home, run))

    def action_help(self) -> None:
        """Show the keys."""
        from tui.dialogs.help import HelpScreen

        self.app.push_screen(HelpScreen())
