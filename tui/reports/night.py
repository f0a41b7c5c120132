"""When the runs of a sweep end, as text; what of them fits into a night, and what is known then."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from engine.config.errors import counted
from tui.reports import formats
from tui.reports.seeds import caveat

if TYPE_CHECKING:
    from jobs.sweeps.prepare import Sweep

MARGIN = "latest: every part of a run as slow as the slowest measured in earlier runs"
# As `jobs.comparison.inference` says, which is slow to import.
FEWEST_SEEDS = 2
_ENOUGH_SEEDS = 3


def ends(sweep: Sweep) -> list[str]:
    """Return when each run is expected to end; a dash where that is unknown."""
    now = sweep.backlog.now
    return [
        formats.MISSING if item.end is None else formats.clock(item.end.expected, now)
        for item in sweep.runs
    ]


def before(sweep: Sweep) -> list[str]:
    """Return what the times of a plan rest on, one line each."""
    return [*_before(sweep), *_end(sweep)]


def after(sweep: Sweep, experiment: str, *, assignments: Sequence[str]) -> list[str]:
    """Return what is known when a night is over, and what is left out, one line each.

    Args:
        sweep: the plan.
        experiment: as it was given: the name or the file.
        assignments: `key=value` overrides of its settings; with both, the rest can be queued later.
    """
    settings = [word for text in assignments for word in ("--set", text)]
    command = ["sepdash", "sweep", experiment, *settings, "--rest"]
    return [*_known(sweep), *_left(sweep, command)]


def nothing_fits(sweep: Sweep) -> str:
    """Return why no run of a night can be queued."""
    night, backlog = sweep.night, sweep.backlog
    if night is None or night.needed is None:
        return "every run of this experiment already exists; nothing to queue"
    assert backlog.free is not None
    deadline = formats.clock(night.deadline, backlog.now)
    start = min(moment.latest for moment in backlog.free)
    rest = formats.duration(max(0.0, night.deadline - start))
    need = formats.duration(night.needed)
    text = (
        f"no complete round fits until {deadline}: all variants of one seed take up to {need}, but only "
        f"{rest} is left"
    )
    if night.cut:
        names = ", ".join(run.variant for run in night.cut)
        return f"{text}; --partial queues what fits: {names}"
    return f"{text}; allow more time, or shorten the runs with --set schedule.length=..."


def _before(sweep: Sweep) -> list[str]:
    backlog = sweep.backlog
    found = []
    if sweep.runs and not backlog.num_alive:
        found.append("no worker is running; times assume that one starts now (`sepdash worker`)")
    if backlog.num_alive > 1:
        found.append(f"{backlog.num_alive} workers share the runs")
    if backlog.ahead and backlog.free is not None:
        first = min(backlog.free, key=lambda moment: moment.latest)
        found.append(
            f"{counted(len(backlog.ahead), 'run')} ahead in the queue: a worker is free at about "
            f"{formats.clock(first.expected, backlog.now)}, at the latest "
            f"{formats.clock(first.latest, backlog.now)}"
        )
    elif backlog.ahead:
        names = ", ".join(run.name for run in backlog.unknown)
        found.append(
            f"{counted(len(backlog.ahead), 'run')} ahead in the queue; duration unknown for {names}"
        )
    return found


def _end(sweep: Sweep) -> list[str]:
    moments = [item.end for item in sweep.runs if item.end is not None]
    if not moments or len(moments) < len(sweep.runs):
        return []
    now = sweep.backlog.now
    expected = formats.clock(max(moment.expected for moment in moments), now)
    last = formats.clock(max(moment.latest for moment in moments), now)
    early = [item for item in sweep.runs if item.run.config.stop_when.is_active]
    may_stop = "; stop_when may end runs earlier" if early else ""
    return [f"expected end {expected}, latest {last} ({MARGIN}){may_stop}"]


def _known(sweep: Sweep) -> list[str]:
    """Return what can be said when the night is over; without one, what the seeds can't tell."""
    night = sweep.night
    if not sweep.runs:
        return []
    if night is None:
        return list(filter(None, [caveat(sweep.whole)]))
    seeds = f"{night.rounds} of {counted(night.seeds, 'seed')} complete"
    if len({run.variant for run in sweep.whole.runs}) == 1:
        return [f"by then: {seeds}"]
    if night.rounds == 0:
        says = "not every variant has a run: those that do can be compared as trained models, not as recipes"
    elif night.rounds < FEWEST_SEEDS:
        says = "trained models can be compared, not recipes"
    elif night.rounds < _ENOUGH_SEEDS:
        says = "enough for a verdict, with little power"
    else:
        says = "enough for a verdict"
    return [f"by then: {seeds}: {says}"]


def _left(sweep: Sweep, command: Sequence[str]) -> list[str]:
    found = []
    night = sweep.night
    if night is not None and night.left and sweep.runs:
        names = ", ".join(run.name for run in night.left)
        found.append(f"left out: {names}")
        if night.cut:
            fits = ", ".join(run.variant for run in night.cut)
            found.append(f"of the next round, {fits} would fit: --partial adds them")
        found.append(f"queue them later with: {shlex.join(command)}")
    if sweep.there:
        number = counted(len(sweep.there), "run")
        verb = "exists" if len(sweep.there) == 1 else "exist"
        planned = {item.run.name for item in sweep.runs}
        instead = (
            "; --rest leaves them out" if planned & sweep.there.keys() else ", not queued again"
        )
        found.append(f"{number} of the experiment {verb} already{instead}")
    found += [
        f"warning: {name} exists with other settings ({_some(keys)}), so it can't be compared with the new runs; "
        "give the experiment another name"
        for name, keys in sweep.changed.items()
    ]
    for run in sweep.ended:
        found.append(
            f"{run.name} {'failed' if run.state == 'failed' else 'was stopped'}: "
            f"`sepdash resume {run.id}` continues it"
        )
    return found


def _some(keys: Sequence[str]) -> str:
    return ", ".join(keys[:3]) + (", ..." if len(keys) > 3 else "")
