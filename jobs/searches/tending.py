"""One step of a search: take in results, end hopeless trials, propose the next one, confirm the best.

The worker calls it. All of it can be repeated: a process that ends anywhere within it leaves the search
such that the next step goes on, with no trial lost, made twice or open for ever.

- A trial is Optuna's until its run is in the store, and found again by the name of its run.
- A run that has ended is told to Optuna once; Optuna refuses a second time.
- The lock of a search ends with its process.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import replace

from engine.config.errors import ConfigError, counted
from jobs import submit
from jobs.home import Home
from jobs.searches.confirming import best_of, confirming_runs
from jobs.searches.definition import Definition
from jobs.searches.proposals import config_of, name_of, suggested
from jobs.searches.rungs import evaluations_of, last_value, value_at, why_pruned
from jobs.searches.trials import Suggest, Trial, Trials
from jobs.store.errors import StateError, StoreError
from jobs.store.reader import StoreReader
from jobs.store.records import RunRecord
from jobs.store.writer import StoreWriter
from jobs.submit import NewRun, enqueue_all
from jobs.sweeps.search_space import BASELINE

logger = logging.getLogger(__name__)

# Notes on a trial: its run was queued; why it is given up; why it has no run.
QUEUED, PRUNED, PROBLEM = "queued", "pruned", "problem"
# Kind of the event of a run that finished although it was to be pruned.
FASTER = "not-pruned"
_ALL = 10**9
# Proposals without a new run, one after another, after which the space counts as used up.
_MOST_IN_VAIN = 30
# A search of which the first trials fail will fail as a whole.
_MOST_FAILED = 3


class Step:
    """One step of one search; whoever does it holds the lock of the search."""

    def __init__(
        self, home: Home, definition: Definition,
        *, trials: Trials, reader: StoreReader, echo: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._home = home
        self._definition = definition
        self._trials = trials
        self._reader = reader
        self._echo = echo
        known = [run for run in reader.runs() if run.experiment == definition.trials_of]
        self._runs = {run.variant: run for run in known}

    def do(self, *, propose: bool) -> bool:
        """Do the step; return whether a run was queued."""
        trials = self._trials.list()
        finished = {trial.variant for trial in trials if trial.state == "finished"}
        for trial in trials:
            if trial.state == "running":
                if self._tend(trial):
                    return True
            elif trial.variant not in finished:
                self._take_late(trial)
        if self._definition.state == "confirming":
            return self._end_if_confirmed()
        if any(trial.state == "running" for trial in trials):
            trials = self._trials.list()
        counted_trials = [trial for trial in trials if PROBLEM not in trial.notes]
        variants = {trial.variant for trial in counted_trials}
        if len(variants) < self._definition.search.trials:
            return propose and self._propose()
        if any(trial.state == "running" for trial in counted_trials):
            return False
        return self._confirm()

    # One trial.

    def _tend(self, trial: Trial) -> bool:
        """Bring a trial that has not ended up to date; return whether its run was queued."""
        if trial.settings is None:
            variant = trial.variant or self._next_variant()
            trial = self._trials.complete(trial.number, variant, propose=self._proposal(variant))
        run = self._runs.get(trial.variant)
        if run is None:
            if QUEUED in trial.notes:
                self._echo(
                    f"search {self._definition.name}: the run of {trial.variant} was removed"
                )
                self._trials.end(trial.number, "failed")
                return False
            return self._queue(trial)
        if QUEUED not in trial.notes:
            self._trials.note(trial.number, QUEUED, text=run.name)
        self._report(trial, run)
        return False

    def _report(self, trial: Trial, run: RunRecord) -> None:
        """Report what a run has reached since the last step; give it up, or take its end in."""
        definition = self._definition
        values = evaluations_of(self._reader, run, metric=definition.metric, clock=definition.clock)
        for rung, position in enumerate(definition.rungs, start=1):
            value = value_at(values, position) if rung > max(trial.reported, default=0) else None
            if value is None:
                continue
            hopeless = self._trials.report(trial.number, rung, value=value)
            trial = replace(trial, reported={**trial.reported, rung: value})
            is_bad = hopeless or not math.isfinite(value)
            if is_bad and self._may_prune(trial, run, rung=rung):
                trial = self._give_up(trial, run, rung=rung)
        if run.state in ("finished", "failed", "stopped"):
            self._end(trial, run, values=values)
        elif PRUNED in trial.notes and not run.stopping:
            self._stop(trial, run)

    def _may_prune(self, trial: Trial, run: RunRecord, *, rung: int) -> bool:
        """Return whether a run can be given up: the base never, nor a run at its end, none twice."""
        is_on = self._definition.search.pruner != "none" and PRUNED not in trial.notes
        is_on = is_on and run.state in ("running", "queued")
        return is_on and trial.variant != BASELINE and rung < len(self._definition.rungs)

    def _give_up(self, trial: Trial, run: RunRecord, *, rung: int) -> Trial:
        """Stop a hopeless run; return its trial with the reason."""
        definition = self._definition
        reason = why_pruned(
            [other for other in self._trials.list() if other.number != trial.number],
            rung=rung, position=definition.rungs[rung - 1], value=trial.reported[rung],
            clock=definition.clock, metric=definition.metric, pruner=definition.search.pruner,
        )  # fmt: skip
        # Noted first: the stop is repeated when this process ends in between.
        self._trials.note(trial.number, PRUNED, text=reason)
        trial = replace(trial, notes={**trial.notes, PRUNED: reason})
        self._echo(f"run {run.name} (id {run.id}) is to be {reason}")
        self._stop(trial, run)
        return trial

    def _stop(self, trial: Trial, run: RunRecord) -> None:
        """Stop a run that is given up, once: a person may have resumed it."""
        if self._kinds(run) & {submit.PRUNING, submit.PRUNED}:
            return
        try:
            submit.stop(self._home, run.id, pruned=trial.notes[PRUNED])
        except StateError:
            logger.info("run %s ended by itself before it was pruned", run.id)

    def _end(self, trial: Trial, run: RunRecord, *, values: list[tuple[float, float]]) -> None:
        """Tell Optuna how a run has ended."""
        value = last_value(values)
        reason = trial.notes.get(PRUNED)
        if run.state == "finished" and value is not None:
            if reason is not None:
                self._say_it_was_faster(run)
            self._trials.end(trial.number, "finished", value=value)
        elif run.state == "stopped" and reason is not None:
            self._say_it_is_pruned(run, reason)
            self._trials.end(trial.number, "pruned")
        else:
            self._trials.end(trial.number, "failed")

    def _say_it_was_faster(self, run: RunRecord) -> None:
        """Note, once, that a run whose stop is among its events had ended before that reached it."""
        kinds = self._kinds(run)
        # Earlier versions noted the request as if it were done.
        if kinds & {submit.PRUNING, submit.PRUNED} and FASTER not in kinds:
            text = "it finished before the search could stop it, and counts as finished"
            with StoreWriter(self._home.store) as store:
                store.add_event(run.id, "info", kind=FASTER, message=text)

    def _say_it_is_pruned(self, run: RunRecord, reason: str) -> None:
        """Note, once, that a run has stopped as the search asked, and why."""
        known = submit.PRUNED in self._kinds(run)
        with StoreWriter(self._home.store) as store, store.transaction():
            store.move(run.id, "stopped", ("stopped",), message=reason)
            if not known:
                store.add_event(run.id, "info", kind=submit.PRUNED, message=reason)

    def _kinds(self, run: RunRecord) -> set[str]:
        """Return the kinds of the events of a run."""
        return {event.kind for event in self._reader.events(run.id, limit=_ALL)}

    def _take_late(self, trial: Trial) -> None:
        """Take in the result of a run that a person resumed after it had been given up."""
        run = self._runs.get(trial.variant)
        if run is None or run.state != "finished":
            return
        values = evaluations_of(
            self._reader, run, metric=self._definition.metric, clock=self._definition.clock
        )
        value = last_value(values)
        if value is not None:
            self._trials.add_finished(trial, value=value)

    # The next trial.

    def _propose(self) -> bool:
        """Propose trials until one has a run; return whether one has."""
        first = [trial for trial in self._trials.list() if PROBLEM not in trial.notes]
        if len(first) >= _MOST_FAILED and all(trial.state == "failed" for trial in first):
            raise StoreError(
                f"the first {len(first)} trials failed; `sepdash runs` shows why; then continue with "
                f"`sepdash sweep {self._definition.name}`"
            )
        for _ in range(_MOST_IN_VAIN):
            variant = self._next_variant()
            trial = self._trials.propose(variant, propose=self._proposal(variant))
            if self._queue(trial):
                return True
        self._echo(f"search {self._definition.name}: no new settings are left in its space")
        return not any(t.state == "running" for t in self._trials.list()) and self._confirm()

    def _next_variant(self) -> str:
        numbers = [int(trial.variant[1:]) for trial in self._trials.list() if trial.variant]
        return f"t{max(numbers, default=-1) + 1:03d}"

    def _proposal(self, variant: str) -> Callable[[Suggest], dict[str, object]]:
        return lambda suggest: suggested(self._definition, variant, suggest=suggest)

    def _queue(self, trial: Trial) -> bool:
        """Queue the run of a trial; return whether it has one, which settings that fit no run have not."""
        definition, seed = self._definition, self._definition.search.seed
        assert trial.settings is not None
        repeated = next(
            (
                other.variant
                for other in self._trials.list()
                if other.number < trial.number and other.settings == trial.settings
                and PROBLEM not in other.notes
            ),
            "",
        )  # fmt: skip
        if repeated and trial.variant != BASELINE:
            self._end_without_run(trial, f"has the settings of {repeated}")
            return False
        try:
            config = config_of(definition, trial.settings, seed=seed)
        except ConfigError as error:
            self._end_without_run(trial, str(error))
            if trial.variant == BASELINE:
                # Not one of the proposals: no other would fare better.
                raise StoreError(f"the base can't be trained: {error}") from None
            return False
        name = name_of(definition, trial.variant, seed=seed)
        new = NewRun(config, name=name, variant=trial.variant)
        enqueue_all(self._home, [new], preset=definition.file.base, experiment=definition.trials_of)
        self._trials.note(trial.number, QUEUED, text=name)
        self._echo(f"search {definition.name}: {name} is queued")
        return True

    def _end_without_run(self, trial: Trial, problem: str) -> None:
        self._trials.note(trial.number, PROBLEM, text=problem)
        self._trials.end(trial.number, "failed")

    # The end.

    def _confirm(self) -> bool:
        """Queue the best settings and the base with fresh seeds; return whether there are any."""
        definition = self._definition
        best = best_of(self._trials.list(), definition)
        if not best:
            definition.moved(self._home, to="failed", message="no trial finished")
            return False
        runs = confirming_runs(definition, best)
        known = {run.name for run in self._reader.runs()}
        missing = [run for run in runs if run.name not in known]
        if missing:
            enqueue_all(
                self._home, missing, preset=definition.file.base, experiment=definition.name
            )
        text = (
            f"search {definition.name}: all trials have ended, best {best[0].variant}; "
            f"{counted(len(missing), 'run')} queued to confirm the best with fresh seeds"
        )
        with StoreWriter(self._home.store) as store:
            store.add_event(None, "info", kind="search", message=text)
        definition.moved(self._home, to="confirming")
        self._echo(text)
        return bool(missing)

    def _end_if_confirmed(self) -> bool:
        mine = [run for run in self._reader.runs() if run.experiment == self._definition.name]
        if not any(run.state in ("queued", "running") for run in mine):
            self._definition.moved(self._home, to="finished")
            self._echo(f"search {self._definition.name}: finished")
        return False
