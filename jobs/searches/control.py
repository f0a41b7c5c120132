"""What a person does with a search: start or continue it, stop it, remove it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any

from engine.config.errors import ConfigError, Problem, counted, nearest
from jobs import submit
from jobs.home import Home
from jobs.machine.lease import FileLock
from jobs.readiness import check_all
from jobs.searches import definition as definitions
from jobs.searches import trials
from jobs.searches.definition import GOING_ON, Definition, trials_of
from jobs.searches.proposals import rungs_of
from jobs.searches.tending import PRUNED
from jobs.searches.trials import open_trials
from jobs.store.errors import StateError, StoreError
from jobs.store.reader import StoreReader
from jobs.store.records import RunRecord
from jobs.sweeps.plan import Plan, check_sweep
from presets.merging import leaves

_LOCK_WAIT_S = 60.0
# What may change when a search goes on; the rest decides what its trials mean.
_FREE = ("trials", "sampler", "pruner", "startup", "prune_from", "confirm", "confirm_seeds")


def start(home: Home, plan: Plan) -> str:
    """Start the search of a plan, or let it go on; return what was done, as a sentence.

    Raises:
        DataError: with every problem of the data folders.
        ConfigError: when the base refers to a run, folder or package that is not there, or the search has
            begun with other settings.
        StoreError: when runs have its name already, or its file can't be written.
    """
    search = plan.experiment.search
    assert search is not None
    check_sweep(home, plan)
    config = submit.absolute(plan.runs[0].config)
    check_all([config])
    home.create()
    clock, rungs = rungs_of(config, plan.experiment.match)
    values = plan.experiment.model_dump(mode="json", by_alias=True, exclude_unset=True)
    # What `for_trials` added.
    values = {key: value for key, value in values.items() if key not in ("variants", "seeds")}
    new = definitions.new(plan.name, values, base=config, clock=clock, rungs=rungs)
    with _locked(home, plan.name):
        old = definitions.find(home, plan.name)
        if old is None:
            _check_names(home, plan.name)
            new.save(home)
            return (
                f"search {plan.name} started: {search.trials} trials, proposed by the worker when the queue "
                "is empty"
            )
        return _continued(home, old, new=new)


def _continued(home: Home, old: Definition, *, new: Definition) -> str:
    _check_same(old, new)
    resumed = 0
    if old.state == "stopped":
        resumed = _resume(home, old)
    if old.state in (*GOING_ON, "finished") and old.search == new.search:
        more = "; raise search.trials to go on" if old.state == "finished" else ""
        return f"search {new.name} is {old.state} already{more}"
    replace(new, created_at=old.created_at).save(home)
    again = f", {counted(resumed, 'run')} resumed" if resumed else ""
    return f"search {new.name} continues: {new.search.trials} trials in all{again}"


def stop(home: Home, name: str) -> int:
    """Stop a search and its runs, which save a checkpoint; return how many runs there were.

    Raises:
        StoreError: when there is no such search.
        StateError: when it does not go on.
    """
    with _locked(home, name):
        definition = find(home, name)
        if definition.state not in GOING_ON:
            raise StateError(f"search {name} can't be stopped: it is {definition.state}")
        definition.moved(home, to="stopped", message="stopped by request")
    stopped = 0
    for run in runs_of(home, name):
        if run.state in ("queued", "running") and not run.stopping:
            submit.stop(home, run.id)
            stopped += 1
    return stopped


def remove(home: Home, name: str, *, keep_runs: bool = False) -> int:
    """Remove a search with its runs and their files; return how many runs were removed.

    Raises:
        StoreError: when there is no such search.
        StateError: while one of its runs is running, or other runs need one.
    """
    with _locked(home, name):
        find(home, name)
        runs = [] if keep_runs else runs_of(home, name)
        if running := [run.name for run in runs if run.state == "running"]:
            raise StateError(
                f"search {name} can't be removed: {', '.join(running)} is running; stop it first "
                f"(`sepdash search {name} --stop`)"
            )
        together = {run.id for run in runs}
        for run in runs:
            submit.remove(home, run.id, together=together)
        trials.forget(home, name)
        definitions.path_of(home, name).unlink()
    return len(runs)


def find(home: Home, name: str) -> Definition:
    """Return a search.

    Raises:
        StoreError: when there is none of that name, with the nearest one.
    """
    found = definitions.find(home, name)
    if found is None:
        names = [definitions.read(path).name for path in definitions.paths(home)]
        hint = nearest(name, names) or (
            f"; available: {', '.join(names)}" if names else "; start one with `sepdash sweep FILE`"
        )
        raise StoreError(f"no search {name!r}{hint}")
    return found


def runs_of(home: Home, name: str) -> list[RunRecord]:
    """List the runs of a search, trials first."""
    with StoreReader(home.store) as reader:
        runs = sorted(reader.runs(), key=lambda run: run.id)
    return [run for run in runs if run.experiment in (name, trials_of(name))]


@contextmanager
def _locked(home: Home, name: str) -> Iterator[None]:
    home.create()
    home.searches.mkdir(mode=0o700, exist_ok=True)
    lock = FileLock(definitions.path_of(home, name).with_suffix(".lock"))
    if not lock.acquire(timeout_s=_LOCK_WAIT_S):
        raise StoreError(f"search {name} is in use by process {lock.holder()}; try again")
    try:
        yield
    finally:
        lock.release()


def _check_names(home: Home, name: str) -> None:
    """Refuse a new search where runs of an earlier one would be taken for its own."""
    if runs := runs_of(home, name):
        raise StoreError(
            f"{counted(len(runs), 'run')} of an earlier experiment {name!r} exist, {runs[0].name} for one; "
            "rename the file of the search, or remove these runs (`sepdash rm`)"
        )


def _check_same(old: Definition, new: Definition) -> None:
    """Check that the trials so far mean the same under the new file.

    Raises:
        ConfigError: with everything that differs.
    """
    before, after = _meaning(old), _meaning(new)
    problems = [
        Problem(key, f"was {before.get(key)!r} when the search started, now {after.get(key)!r}")
        for key in dict.fromkeys([*before, *after])
        if before.get(key) != after.get(key)
    ]
    if problems:
        hint = Problem(
            "",
            f"search {new.name} can't go on with other settings: undo these changes, give the file another "
            f"name, or remove the search (`sepdash search {new.name} --remove`)",
        )
        raise ConfigError([*problems, hint])


def _meaning(definition: Definition) -> dict[str, Any]:
    search = definition.search.model_dump(mode="json")
    fixed = {key: value for key, value in search.items() if key not in _FREE}
    fixed["space"] = {parameter.key: parameter.text for parameter in definition.space}
    file: Mapping[str, Any] = {
        "match": definition.file.match,
        "scale_schedules": definition.file.scale_schedules,
        "name": definition.file.name,
        "search": fixed,
    }
    return {**dict(leaves(file)), **dict(leaves(definition.base))}


def _resume(home: Home, definition: Definition) -> int:
    """Resume the runs that stopped with the search; return how many."""
    with closing(open_trials(home, definition)) as opened:
        going = {t.variant for t in opened.list() if t.state == "running" and PRUNED not in t.notes}
    resumed = 0
    for run in runs_of(home, definition.name):
        is_trial = run.experiment == definition.trials_of
        if run.state == "stopped" and (not is_trial or run.variant in going):
            submit.resume(home, run.id)
            resumed += 1
    return resumed
