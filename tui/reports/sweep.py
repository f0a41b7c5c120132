"""The plan of a sweep as text: one row for each run, and what all of them cost together."""

from __future__ import annotations

import shutil
from math import isnan
from typing import TYPE_CHECKING

from engine.config.errors import counted
from jobs.home import Home
from tui.reports import formats

if TYPE_CHECKING:
    from jobs.sweeps.plan import Plan

HEADERS = ("RUN", "SEED", "BATCH", "UPDATES", "ITEMS", "AUDIO", "TIME", "DISK")


def headline(plan: Plan) -> str:
    """Return how many runs of what there are, and what is matched."""
    experiment = plan.experiment
    matched = "each as long as it says"
    if experiment.match != "none":
        scaled = "stretched" if experiment.scale_schedules else "as written"
        matched = f"matched in {experiment.match}, schedules {scaled}"
    return f"{plan.name}: {counted(len(plan.runs), 'run')} of {experiment.base}, {matched}"


def rows(plan: Plan) -> list[list[str]]:
    """Return the cells of each run, in the order of `HEADERS`."""
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
        ]
        for run in plan.runs
    ]


def totals(plan: Plan, home: Home) -> str:
    """Return the line below the table; a sum over runs that are not all known says so."""
    audio = _hours(sum(run.audio_seconds for run in plan.runs))
    words = [f"in all {sum(run.updates for run in plan.runs)} updates", f"{audio} of audio"]
    seconds = [run.seconds for run in plan.runs if run.seconds is not None]
    sizes = [run.size_bytes for run in plan.runs if run.size_bytes is not None]
    unknown = len(plan.runs) - len(seconds)
    if seconds:
        words.append(f"about {formats.duration(sum(seconds))}, from earlier runs")
    if unknown:
        words.append(f"no earlier run tells the time of {unknown}")
    folder = next(path for path in (home.root, *home.root.parents) if path.exists())
    free = formats.size(shutil.disk_usage(folder).free)
    words.append(
        f"{formats.size(sum(sizes))} of {free} free disk" if sizes else f"{free} disk free"
    )
    return ", ".join(words)


def _hours(seconds: float) -> str:
    """Return hours; those of utterances that can't be read are not known."""
    return formats.MISSING if isnan(seconds) else f"{seconds / 3600:.1f} h"


def warnings(plan: Plan) -> list[str]:
    """Return what is odd about the schedules, once for each variant."""
    told = dict.fromkeys((run.variant, text) for run in plan.runs for text in run.warnings)
    return [f"warning: {variant}: {text}" for variant, text in told]
