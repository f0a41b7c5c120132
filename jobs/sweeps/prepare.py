"""A sweep as a person asks for it: what is queued, what is there already, when each run ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from engine.config.loading import load_config
from jobs.home import Home
from jobs.store.errors import StoreError
from jobs.store.reader import StoreReader
from jobs.store.records import RunRecord
from jobs.sweeps.backlog import Backlog, read_backlog
from jobs.sweeps.existing import differences, with_lengths_of
from jobs.sweeps.night import Night, TimedRun, plan_night, timed
from jobs.sweeps.plan import Plan, check_sweep, plan_sweep
from jobs.sweeps.trial import read_measured, time_configs
from presets.catalogue import Catalogue


@dataclass(frozen=True, slots=True)
class Wish:
    """What a person asked for.

    Attributes:
        assignments: `key=value` overrides of the settings shared by all runs.
        deadline: Unix time until which runs must end; None: queue all of them.
        rest: leave out the runs that are there already.
        partial: fill a night with a part of a round.
        measure: time the configs that no earlier run resembles.
    """

    assignments: tuple[str, ...] = ()
    deadline: float | None = None
    rest: bool = False
    partial: bool = False
    measure: bool = False


@dataclass(frozen=True, slots=True)
class Sweep:
    """A planned sweep.

    Attributes:
        whole: every run of the experiment.
        runs: those to queue, in this order, and when each ends.
        there: the runs of the experiment that exist already, by name.
        changed: the settings in which some of those differ from the experiment as it is now.
        backlog: what is done before.
        night: what fits until a deadline; None without one.
    """

    whole: Plan
    runs: tuple[TimedRun, ...]
    there: Mapping[str, RunRecord]
    changed: Mapping[str, list[str]]
    backlog: Backlog
    night: Night | None

    @property
    def plan(self) -> Plan:
        """The plan of the runs to queue."""
        return replace(self.whole, runs=tuple(item.run for item in self.runs))

    @property
    def ended(self) -> list[RunRecord]:
        """The existing runs that failed or were stopped."""
        return [run for run in self.there.values() if run.state in ("failed", "stopped")]


def prepare_sweep(
    home: Home,
    name: str,
    *,
    values: Mapping[str, Any],
    wish: Wish,
    echo: Callable[[str], None],
    now: float | None = None,
) -> Sweep:
    """Plan the runs of an experiment file.

    Args:
        home: the store of earlier runs, and the user's presets.
        name: the experiment's name.
        values: content of the file.
        wish: what was asked for.
        echo: receives a line about each config that is timed.
        now: Unix time; None: that of the clock.

    Raises:
        ConfigError, PresetError, DataError: as `plan_sweep` and `check_sweep`.
        NightError: when a time is unknown, or can't be measured.
        StoreError: when a night is planned of runs whose names are taken.
    """
    catalogue = Catalogue(home.presets)
    measured = read_measured(home)
    if wish.measure:
        # Lengths that are matched in wall clock need the times first.
        first = {**values, "match": "updates"} if values.get("match") == "wall_clock" else values
        plan = plan_sweep(name, first, catalogue, assignments=wish.assignments, measured=measured)
        configs = [(run.variant, run.config) for run in plan.runs]
        with StoreReader(home.store) as reader:
            queued = [run for run in reader.runs() if run.state == "queued"]
            configs += [(run.name, load_config(reader.config(run.id))) for run in queued]
        measured = time_configs(home, configs, echo=echo)
    plan = plan_sweep(name, values, catalogue, assignments=wish.assignments, measured=measured)
    with StoreReader(home.store) as reader:
        names = {run.name for run in plan.runs}
        there = {run.name: run for run in reader.runs() if run.name in names}
        stored = {run.name: reader.config(run.id) for run in there.values()}
        backlog = read_backlog(reader, measured, now=time.time() if now is None else now)
    plan = with_lengths_of(plan, stored, measured=measured)
    changed = {
        run.name: keys
        for run in plan.runs
        if run.name in stored and (keys := differences(run, stored[run.name]))
    }
    sweep = Sweep(plan, (), there=there, changed=changed, backlog=backlog, night=None)
    if wish.deadline is None:
        missing = [run for run in plan.runs if not (wish.rest and run.name in there)]
        sweep = replace(sweep, runs=tuple(timed(missing, backlog)))
    else:
        night = _night(sweep, wish, deadline=wish.deadline)
        sweep = replace(sweep, runs=night.runs, night=night)
    check_sweep(home, sweep.plan)
    return sweep


def _night(sweep: Sweep, wish: Wish, *, deadline: float) -> Night:
    """Return which runs end before a deadline."""
    if sweep.there and not wish.rest:
        raise taken(sweep.there)
    ended = {run.name for run in sweep.ended}
    return plan_night(
        sweep.whole.runs,
        sweep.backlog,
        deadline=deadline,
        there=sweep.there.keys() - ended,
        ended=ended,
        partial=wish.partial,
    )


def taken(there: Mapping[str, RunRecord]) -> StoreError:
    """Return the refusal to queue runs that exist already."""
    first = next(iter(there.values()))
    more = f", and {len(there) - 1} more" if len(there) > 1 else ""
    return StoreError(
        f"a run named {first.name!r} already exists (id {first.id}{more}); add --rest to queue only the "
        "runs that don't exist yet"
    )
