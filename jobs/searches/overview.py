"""A search as a person sees it: its trials, and what its best settings are worth."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from jobs.home import Home
from jobs.searches import control
from jobs.searches import definition as definitions
from jobs.searches.confirming import REFERENCE, best_of
from jobs.searches.definition import Definition, SearchState
from jobs.searches.rungs import evaluations_of, last_value
from jobs.searches.tending import PROBLEM, PRUNED
from jobs.searches.trials import Trial, open_trials
from jobs.store.reader import StoreReader
from jobs.store.records import RunRecord
from jobs.sweeps.search_space import BASELINE


@dataclass(frozen=True, slots=True)
class Summary:
    """One search in a list; `ended` counts its trials that have ended, `problem` says why it can't be read."""

    name: str
    state: SearchState | str
    trials: int = 0
    ended: int = 0
    message: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class TrialRow:
    """One trial.

    Attributes:
        state: queued, running, stopping, finished, pruned, stopped, failed or removed.
        value: at the end of a finished trial, at its newest evaluation otherwise.
        note: why it was pruned, or what its run says.
    """

    variant: str
    run: int | None
    state: str
    progress: float
    value: float | None
    settings: dict[str, Any]
    note: str


@dataclass(frozen=True, slots=True)
class Confirmed:
    """Settings that were run again: what the search said, and what runs with fresh seeds say.

    Attributes:
        searched: value of the trial, with the seed of the search; one of the best, so biased.
        values: values of the confirming runs that have finished.
        planned: number of confirming runs.
    """

    variant: str
    searched: float | None
    values: tuple[float, ...]
    planned: int

    @property
    def mean(self) -> float | None:
        """Mean of the confirming runs; None before the first one has finished."""
        return fmean(self.values) if self.values else None

    @property
    def deviation(self) -> float | None:
        """Standard deviation of the confirming runs (n - 1); None for fewer than two."""
        return stdev(self.values) if len(self.values) > 1 else None


@dataclass(frozen=True, slots=True)
class Overview:
    """A search with everything that is known of it.

    Attributes:
        best: variant of the best trial; empty before one has finished.
        num_finished: number of trials of which it is the best.
        runs: the confirming runs, the base first: those that verdicts are about.
    """

    definition: Definition
    trials: tuple[TrialRow, ...]
    best: str
    num_finished: int
    confirmed: tuple[Confirmed, ...]
    importances: dict[str, float]
    runs: tuple[RunRecord, ...]


def summaries(home: Home) -> list[Summary]:
    """List the searches of a home by name."""
    paths = definitions.paths(home)
    if not paths:
        return []
    with StoreReader(home.store) as reader:
        runs = reader.runs()
    result = []
    for path in paths:
        try:
            definition = definitions.read(path)
        except ValueError as error:
            result.append(Summary(path.stem, "unreadable", problem=str(error)))
            continue
        ended = sum(
            run.state not in ("queued", "running")
            for run in runs
            if run.experiment == definition.trials_of
        )
        result.append(
            Summary(
                definition.name, definition.state, trials=definition.search.trials, ended=ended,
                message=definition.message,
            )
        )  # fmt: skip
    return result


def overview(home: Home, name: str, *, reader: StoreReader) -> Overview:
    """Return everything about a search.

    Raises:
        StoreError: when there is no such search, or a file can't be read.
    """
    definition = control.find(home, name)
    with closing(open_trials(home, definition)) as opened:
        trials, importances = opened.list(), opened.importances()
    runs = sorted(reader.runs(), key=lambda run: run.id)
    by_variant = {run.variant: run for run in runs if run.experiment == definition.trials_of}
    # A trial that was resumed after its end is there twice, the second time with its value.
    latest = {trial.variant: trial for trial in trials if PROBLEM not in trial.notes}
    rows = [
        _row(
            trial,
            by_variant.get(trial.variant),
            value=_value(reader, by_variant.get(trial.variant), of=definition),
        )
        for trial in latest.values()
        if trial.variant
    ]
    best = best_of(trials, definition, with_base=True)
    confirming = [run for run in runs if run.experiment == name and run.state != "failed"]
    return Overview(
        definition, tuple(rows), best=best[0].variant if best else "",
        num_finished=sum(trial.state == "finished" for trial in latest.values()),
        confirmed=_confirmed(confirming, reader, definition=definition, trials=latest),
        importances=importances, runs=tuple(confirming),
    )  # fmt: skip


def _row(trial: Trial, run: RunRecord | None, *, value: float | None) -> TrialRow:
    state = "removed" if run is None else run.condition
    if state == "stopped" and PRUNED in trial.notes:
        state = "pruned"
    note = trial.notes.get(PRUNED, "") if state == "pruned" else "" if run is None else run.message
    if state == "finished" and trial.state == "failed":
        note = "no finite value at its end"
    return TrialRow(
        trial.variant, None if run is None else run.id, state,
        progress=0.0 if run is None else run.progress,
        value=trial.value if run is None else value,
        settings=dict(trial.settings or {}),
        note=note,
    )  # fmt: skip


def _value(reader: StoreReader, run: RunRecord | None, *, of: Definition) -> float | None:
    if run is None:
        return None
    return last_value(evaluations_of(reader, run, metric=of.metric, clock=of.clock))


def _confirmed(
    runs: Sequence[RunRecord],
    reader: StoreReader,
    *,
    definition: Definition,
    trials: dict[str, Trial],
) -> tuple[Confirmed, ...]:
    result = []
    for variant in dict.fromkeys(run.variant for run in runs):
        own = [run for run in runs if run.variant == variant]
        values = [_value(reader, run, of=definition) for run in own if run.state == "finished"]
        trial = trials.get(BASELINE if variant == REFERENCE else variant)
        result.append(
            Confirmed(
                variant, trial.value if trial else None,
                values=tuple(value for value in values if value is not None), planned=len(own),
            )
        )  # fmt: skip
    return tuple(result)
