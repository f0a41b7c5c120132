"""Which runs of a sweep end before a deadline, in which order.

Whole rounds: all variants of one seed, the reference first, then the next seed, so that whatever is
finished when a night is cut short can be compared. A round fits when all its runs end in time at the
slowest speed measured. Of rounds that differ in what is left of them, the shortest comes first: so the
largest number of them fits, and the first answer comes soonest.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import groupby

from engine.config.errors import counted
from jobs.sweeps.backlog import Backlog, Moment, placed
from jobs.sweeps.measured import Duration
from jobs.sweeps.plan import PlannedRun


class NightError(ValueError):
    """A night that can't be planned, or in which nothing can be run."""


@dataclass(frozen=True, slots=True)
class TimedRun:
    """A run to queue, and when it ends; `end` is None where that is unknown."""

    run: PlannedRun
    end: Moment | None


@dataclass(frozen=True, slots=True)
class Night:
    """What is run until a deadline.

    Attributes:
        deadline: Unix time.
        runs: what fits, in the order to queue it.
        left: what does not, in the order of the plan.
        rounds: seeds that all variants are trained with, when the night is over.
        seeds: number of seeds of the experiment.
        cut: the runs of the next round that would fit, the reference among them; empty if none.
        needed: how long the next round would take at the slowest speed measured; None without one.
    """

    deadline: float
    runs: tuple[TimedRun, ...]
    left: tuple[PlannedRun, ...]
    rounds: int
    seeds: int
    cut: tuple[PlannedRun, ...]
    needed: float | None


def timed(runs: Sequence[PlannedRun], backlog: Backlog) -> list[TimedRun]:
    """Return runs with the time at which each ends, up to the first one of unknown duration."""
    known: list[Duration] = []
    for run in runs:
        if run.duration is None or backlog.free is None:
            break
        known.append(run.duration)
    ends: list[Moment | None] = list(placed(known, backlog.free)) if backlog.free else []
    ends += [None] * (len(runs) - len(ends))
    return [TimedRun(run, end) for run, end in zip(runs, ends, strict=True)]


def plan_night(
    runs: Sequence[PlannedRun],
    backlog: Backlog,
    *,
    deadline: float,
    there: Collection[str] = (),
    ended: Collection[str] = (),
    partial: bool = False,
) -> Night:
    """Choose the runs that end before a deadline.

    Args:
        runs: all runs of the plan, seed by seed, the reference first.
        backlog: what is done before.
        deadline: Unix time.
        there: names of the runs that are finished, running or queued already.
        ended: names of the runs that failed or were stopped, whose rounds stay incomplete.
        partial: also a part of the next round, with its reference, the shortest variants first.

    Raises:
        NightError: when the time of a run that counts is unknown.
    """
    reference = runs[0].variant
    rounds = [
        _Round.of(list(group), there=there, ended=ended)
        for _, group in groupby(runs, key=lambda run: run.seed)
    ]
    _require_known([run for one in rounds for run in one.runs], backlog)
    assert backlog.free is not None
    chosen: list[PlannedRun] = []
    num_complete = sum(not one.runs and not one.is_broken for one in rounds)
    # Shortest first; what can't be completed any more comes last.
    waiting = sorted(
        (one for one in rounds if one.runs), key=lambda one: (one.is_broken, _slowest(one.runs))
    )
    while waiting and _fits([*chosen, *waiting[0].runs], backlog.free, deadline=deadline):
        taken = waiting.pop(0)
        chosen += taken.runs
        num_complete += not taken.is_broken
    cut: list[PlannedRun] = []
    if waiting:
        cut = _part(
            waiting[0].runs, chosen, free=backlog.free, deadline=deadline, reference=reference
        )
    if partial:
        chosen, cut = [*chosen, *cut], []
    names = {run.name for run in chosen}
    return Night(
        deadline,
        tuple(timed(chosen, backlog)),
        left=tuple(run for one in rounds for run in one.runs if run.name not in names),
        rounds=num_complete,
        seeds=len(rounds),
        cut=tuple(cut),
        needed=_slowest(waiting[0].runs) if waiting else None,
    )


@dataclass(frozen=True, slots=True)
class _Round:
    """The runs of one seed that are not there yet; a broken one has a run that failed or was stopped."""

    runs: tuple[PlannedRun, ...]
    is_broken: bool

    @classmethod
    def of(
        cls, runs: Sequence[PlannedRun], *, there: Collection[str], ended: Collection[str]
    ) -> _Round:
        missing = tuple(run for run in runs if run.name not in there and run.name not in ended)
        return cls(missing, is_broken=any(run.name in ended for run in runs))


def _part(
    some: Sequence[PlannedRun],
    before: Sequence[PlannedRun],
    *,
    free: Sequence[Moment],
    deadline: float,
    reference: str,
) -> list[PlannedRun]:
    """Return the runs of a round that fit after others, with the reference unless that is there."""
    first = [run for run in some if run.variant == reference]
    others = sorted(
        (run for run in some if run.variant != reference), key=lambda run: _slowest([run])
    )
    taken: list[PlannedRun] = []
    for run in [*first, *others]:
        if not _fits([*before, *taken, run], free, deadline=deadline):
            break
        taken.append(run)
    return taken if len(taken) > len(first) else []


def _fits(runs: Sequence[PlannedRun], free: Sequence[Moment], *, deadline: float) -> bool:
    known = [run.duration for run in runs if run.duration is not None]
    return all(end.latest <= deadline for end in placed(known, free))


def _slowest(runs: Sequence[PlannedRun]) -> float:
    return sum(run.duration.slowest_s for run in runs if run.duration is not None)


def _require_known(runs: Sequence[PlannedRun], backlog: Backlog) -> None:
    unknown = [run.name for run in backlog.unknown]
    unknown += [run.name for run in runs if run.duration is None]
    if unknown:
        names = ", ".join(unknown[:5]) + (", ..." if len(unknown) > 5 else "")
        raise NightError(
            f"no measured time of {counted(len(unknown), 'run')}: {names}; "
            "add --measure to time a few updates of each config first, or train one of each"
        )
