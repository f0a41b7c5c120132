"""Runs and their checkpoints as a list, from which a setting that refers to a run is filled."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Protocol

from textual import on
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from jobs.home import Home
from tui.dialogs.box import BoxScreen
from tui.live.actions import Failed, attempt
from tui.reports.formats import clean

_MOST_RUNS = 100


class HasHome(Protocol):
    """A screen that knows where runs are."""

    home: Home

    @property
    def app(self) -> App[object]:
        """Return the application."""


class RunReferenceScreen(BoxScreen[str | None]):
    """Returns what to write into the setting, such as NAME or NAME@last; Escape or q returns None."""

    DEFAULT_CSS = """
    RunReferenceScreen > VerticalScroll { width: 110; }
    RunReferenceScreen OptionList { height: auto; max-height: 24; border: none; background: $panel; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q", "dismiss(None)", "close")]

    def __init__(self, home: Home) -> None:
        super().__init__()
        self._home = home

    def compose(self) -> ComposeResult:
        """Lay out the box; a thread reads runs and manifests."""
        with VerticalScroll() as box:
            box.border_title = "runs and checkpoints"
            box.border_subtitle = "Enter: take, Esc: close"
            yield Static("reading ...", id="note", markup=False)
            yield OptionList(markup=False)

    def on_mount(self) -> None:
        """Read the runs."""
        self.run_worker(self._read, thread=True, name="references")

    def _read(self) -> None:
        found = attempt(self._home, lambda: references_in(self._home))
        self.app.call_from_thread(self._show, found)

    def _show(self, found: list[tuple[str, str]] | Failed) -> None:
        if not self.is_mounted:
            return
        note, options = self.query_one("#note", Static), self.query_one(OptionList)
        if isinstance(found, Failed):
            note.update(found.text)
            return
        note.update(
            "A name alone means the best checkpoint; the new run waits for a run that has not ended."
            if found
            else "No runs yet."
        )
        options.add_options(Option(f"{name:<40}  {clean(about)}", id=name) for name, about in found)
        options.highlighted = 0 if found else None
        options.focus()

    @on(OptionList.OptionSelected)
    def _chosen(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(str(event.option_id))


def choose_run(screen: HasHome, take: Callable[[str], None]) -> None:
    """Ask for a run or a checkpoint over a screen, and let `take` have what refers to it."""

    def answered(name: str | None) -> None:
        if name:
            take(name)

    screen.app.push_screen(RunReferenceScreen(screen.home), answered)


def references_in(home: Home) -> list[tuple[str, str]]:
    """Return what a setting may refer to, with what it is: each run, then its checkpoints.

    Raises:
        StoreError: when the store can't be read.
    """
    from engine.checkpoints.choosing import checkpoints_of, value_text
    from jobs.store.reader import StoreReader

    with StoreReader(home.store) as reader:
        runs = reader.runs()[:_MOST_RUNS]
    found = []
    for run in runs:
        found.append((run.name, f"{run.state}, {run.preset or 'no preset'}"))
        for one in checkpoints_of(home.run_folder(run.id), metric=run.metric):
            kind = one.name.removeprefix("best-") if one.name.startswith("best-") else ""
            if "RUN@last" in one.use:
                kind = "last"
            if kind and not one.problem:
                about = f"update {one.updates:,}, {value_text(one) or 'no metric'}"
                found.append((f"{run.name}@{kind}", about))
    return found
