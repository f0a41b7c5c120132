"""The plan of a sweep as records, for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tui.reports.seeds import caveat

if TYPE_CHECKING:
    from jobs.sweeps.night import TimedRun
    from jobs.sweeps.prepare import Sweep


def records(sweep: Sweep, *, refused: Sequence[str] | None = None) -> dict[str, Any]:
    """Return a plan: its runs in the order they are queued; with a deadline, what is left out, too.

    Args:
        sweep: the plan.
        refused: what keeps it from being queued; None: not checked.
    """
    experiment, night, free = sweep.whole.experiment, sweep.night, sweep.backlog.free
    found: dict[str, Any] = {
        "experiment": sweep.whole.name,
        "base": experiment.base,
        "match": experiment.match,
        "scale_schedules": experiment.scale_schedules,
        "caveat": caveat(sweep.whole) or None,
        "workers": sweep.backlog.num_alive,
        "runs_before": [item.run.name for item in sweep.backlog.ahead],
        "free": None if free is None else _iso(min(moment.expected for moment in free)),
        "free_latest": None if free is None else _iso(min(moment.latest for moment in free)),
        "exist": sorted(sweep.there),
        "changed": dict(sweep.changed),
        "runs": [_run(item) for item in sweep.runs],
    }
    if refused is not None:
        found["refused"] = list(refused)
    if night is not None:
        found["night"] = {
            "until": _iso(night.deadline),
            "rounds": night.rounds,
            "seeds": night.seeds,
            "left_out": [run.name for run in night.left],
            "partial": [run.name for run in night.cut],
            "next_round_seconds": night.needed,
        }
    return found


def _run(item: TimedRun) -> dict[str, Any]:
    run, end = item.run, item.end
    return {
        "name": run.name,
        "variant": run.variant,
        "seed": run.seed,
        "updates": run.updates,
        "items": run.items,
        "audio_seconds": run.audio_seconds,
        "epochs": run.epochs or None,
        "seconds": run.seconds,
        "seconds_at_most": None if run.duration is None else run.duration.slowest_s,
        "end": None if end is None else _iso(end.expected),
        "end_latest": None if end is None else _iso(end.latest),
        "size_bytes": run.size_bytes,
        "warnings": run.warnings,
        "config": run.config.to_dict(),
    }


def _iso(moment: float) -> str:
    """Return a Unix time with its offset from UTC."""
    return datetime.fromtimestamp(moment).astimezone().isoformat(timespec="seconds")
