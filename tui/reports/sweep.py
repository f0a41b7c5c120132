"""The plan of a sweep as text: one row per run, and totals."""

from __future__ import annotations

import shutil
from math import isnan
from typing import TYPE_CHECKING

from engine.config.errors import counted
from jobs.home import Home
from tui.reports import formats, night

if TYPE_CHECKING:
    from jobs.sweeps.plan import Plan
    from jobs.sweeps.prepare import Sweep

HEADERS = ("RUN", "SEED", "BATCH", "UPDATES", "ITEMS", "AUDIO", "TIME", "DISK", "END")


def headline(sweep: Sweep) -> str:
    """Return the number of runs, their preset, what is matched, and until when they fit."""
    plan = sweep.whole
    experiment = plan.experiment
    matched = "lengths not matched"
    if experiment.match != "none":
        scaled = "scaled" if experiment.scale_schedules else "not scaled"
        matched = f"matched in {experiment.match}, schedules {scaled}"
    number = counted(len(plan.runs), "run")
    if len(sweep.runs) < len(plan.runs):
        number = f"{len(sweep.runs)} of {number}"
    until = ""
    if sweep.night is not None:
        until = f" until {formats.clock(sweep.night.deadline, sweep.backlog.now)}"
    return f"{plan.name}: {number} of {experiment.base}{until}, {matched}"


def rows(sweep: Sweep) -> list[list[str]]:
    """Return the cells of each run to queue, in the order of `HEADERS`."""
    ends = night.ends(sweep)
    return [
        [
            run.name,
            str(run.seed),
            formats.count(run.items / run.updates),
            str(run.updates),
            str(run.items),
            _hours(run.audio_seconds),
            formats.duration(run.seconds),
            formats.size(run.size_bytes),
            end,
        ]
        for run, end in zip(sweep.plan.runs, ends, strict=True)
    ]


def totals(plan: Plan, home: Home) -> str:
    """Return the line below the table; it mentions runs of unknown duration."""
    audio = _hours(sum(run.audio_seconds for run in plan.runs))
    words = [f"total: {sum(run.updates for run in plan.runs):,} updates", f"{audio} of audio"]
    seconds = [run.seconds for run in plan.runs if run.seconds is not None]
    sizes = [run.size_bytes for run in plan.runs if run.size_bytes is not None]
    unknown = len(plan.runs) - len(seconds)
    if seconds:
        words.append(f"about {formats.duration(sum(seconds))} (estimated from earlier runs)")
    if unknown:
        words.append(f"duration unknown for {counted(unknown, 'run')} (no comparable earlier run)")
    folder = next(path for path in (home.root, *home.root.parents) if path.exists())
    free = formats.size(shutil.disk_usage(folder).free)
    words.append(
        f"{formats.size(sum(sizes))} of {free} free disk space"
        if sizes
        else f"{free} free disk space"
    )
    return ", ".join(words)


def _hours(seconds: float) -> str:
    """Return hours; unknown for unreadable utterances."""
    return formats.MISSING if isnan(seconds) else f"{seconds / 3600:.1f} h"


def warnings(plan: Plan) -> list[str]:
    """Return the warnings about schedules, once per variant."""
    unique = dict.fromkeys((run.variant, text) for run in plan.runs for text in run.warnings)
    return [f"warning: {variant}: {text}" for variant, text in unique]


def probe_warnings(plan: Plan) -> list[str]:
    """Return the warnings about runs that [probe] may not be able to probe."""
    from jobs.sweeps import probe_requests

    if plan.experiment.probe is None:
        return []
    found = probe_requests.probe_warnings([run.config for run in plan.runs])
    return [f"warning: {formats.clean(text)}" for text in found]
