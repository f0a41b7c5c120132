"""Runs and their checkpoints as a list, from which a setting that refers to a run is filled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from textual.app import App
from textual.widgets.option_list import Option

from jobs.home import Home
from tui.dialogs.reading import ChoosingScreen
from tui.reports.formats import clean

_MOST_RUNS = 100


class HasHome(Protocol):
    """A screen that knows where runs are."""

    home: Home

    @property
    def app(self) -> App[object]:
        """Return the application."""


class RunReferenceScreen(ChoosingScreen[list[tuple[str, str]]]):
    """Returns what to write into the setting, such as NAME or NAME@last; Escape or q returns None."""

    DEFAULT_CSS = "RunReferenceScreen OptionList { max-height: 24; }"

    keys = "Enter: take, Esc: close"

    def _box_title(self) -> str:
        return "runs and checkpoints"

    def _read(self) -> list[tuple[str, str]]:
        return references_in(self._home)

    def _show(self, found: list[tuple[str, str]]) -> None:
        options = [Option(f"{name:<40}  {clean(about)}", id=name) for name, about in found]
        note = (
            "A name alone means the best checkpoint; the new run waits for a run that has not ended."
            if found
            else "No runs yet."
        )
        self._offer(options, note)


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
    from engine.checkpoints.layout import best_metric
    from jobs.store.reader import StoreReader

    with StoreReader(home.store) as reader:
        runs = reader.runs()[:_MOST_RUNS]
    found = []
    for run in runs:
        found.append((run.name, f"{run.state}, {run.preset or 'no preset'}"))
        for one in checkpoints_of(home.run_folder(run.id), metric=run.metric):
            kind = best_metric(one.name)
            if "RUN@last" in one.use:
                kind = "last"
            if kind and not one.problem:
                about = f"update {one.updates:,}, {value_text(one) or 'no metric'}"
                found.append((f"{run.name}@{kind}", about))
    return found
