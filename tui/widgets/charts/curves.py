"""One curve of a run as a line of a chart: its name, its clock, its smoothing. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

import numpy as np

from engine.metrics.registry import evaluated_name, metric_of, stored_name
from jobs.store.records import Curve, RunRecord
from tui.live.messages import RunData
from tui.widgets.charts.figure import Line
from tui.widgets.charts.smoothing import smooth
from tui.widgets.charts.view import SMOOTHING, View

# What a row of the store says may be anything: seconds of an update that no axis can show.
_LARGEST = 1e12
_NOTHING = Curve("", "", bucket=1, updates=[], low=[], high=[], mean=[], last=[])


def line_of(
    item: RunData,
    name: str,
    *,
    label: str,
    colour: int,
    view: View,
    band: bool = False,
    noisy: bool = False,
) -> Line:
    """Return one curve of a run on a clock, as its metric is written; empty where the run has no such series.

    With `band`, the range of its points is drawn, too; one that is `noisy` is drawn smoothed.
    """
    curve = _NOTHING if is_unknown(item.run, view.clock) else item.curves.get(name, _NOTHING)
    scale = metric_of(name).scale
    x = np.array(curve.updates, dtype=np.float64) * per_update(item.run, view.clock)
    with np.errstate(over="ignore"):
        values, low, high = (
            np.array(part, dtype=np.float64) * scale for part in (curve.mean, curve.low, curve.high)
        )
    mean = smooth(values, SMOOTHING[view.smoothing]) if noisy else values
    raw = None if mean is values else values
    if not band:
        return Line(label, colour, x=x, mean=mean, raw=raw)
    return Line(label, colour, x=x, mean=mean, low=low, high=high, raw=raw)


def level_of(
    series: Sequence[tuple[RunData, str]], level: float, *, label: str, colour: int, view: View
) -> list[Line]:
    """Return a dotted line at `level`, as wide as the series of runs that have points; none without any."""
    found = [(item.run, item.curves.get(name, _NOTHING)) for item, name in series]
    places = [
        curve.updates[place] * per_update(run, view.clock)
        for run, curve in found
        if curve.updates and not is_unknown(run, view.clock)
        for place in (0, -1)
    ]
    if not places:
        return []
    ends = np.array([min(places), max(places)])
    return [Line(label, colour, x=ends, mean=np.full(2, level), dotted=True)]


def short_names(data: Sequence[RunData]) -> dict[int, str]:
    """Return the names of runs by id, without their common prefix."""
    names = [item.run.name for item in data]
    same = takewhile(lambda chars: len(set(chars)) == 1, zip(*names, strict=False))
    common = "".join(chars[0] for chars in same)[: min(map(len, names)) - 1]
    cut = common.rfind("-") + 1
    return {item.run.id: item.run.name[cut:] for item in data}


def evaluated(item: RunData, metric: str) -> str:
    """Return the name that a metric has in the evaluations of a run."""
    of_training = evaluated_name(metric)
    return (
        of_training if any(name in item.curves for name in _with_average(of_training)) else metric
    )


def judged(item: RunData, metric: str) -> str:
    """Return the series of a metric by which the run is evaluated: EMA where it has one; else whole files."""
    name = evaluated(item, metric)
    average, raw = _with_average(name)
    for series in (average, raw):
        if (curve := item.curves.get(series)) is not None and curve.updates:
            return series
    return whole(item, name) or raw


def whole(item: RunData, metric: str) -> str | None:
    """Return the series of a metric on whole files: that of the EMA if it has one."""
    names = _with_average(metric, full=True)
    return next((name for name in names if (c := item.curves.get(name)) and c.updates), None)


def is_unknown(run: RunRecord, clock: str) -> bool:
    """Return whether a run of an earlier version did not count what the clock shows."""
    return clock == "epochs" and run.updates > 0 and not run.epochs


def per_update(run: RunRecord, clock: str) -> float:
    """Return how far an update moves on a clock, on average."""
    amount = {
        "updates": float(run.updates),
        "items": float(run.items),
        "epochs": run.epochs,
        "audio time": run.audio_seconds,
        "train time": run.train_seconds,
    }[clock]
    return min(max(amount / run.updates, 0.0), _LARGEST) if run.updates else 1.0


def _with_average(name: str, *, full: bool = False) -> tuple[str, str]:
    return stored_name(name, full=full, ema=True), stored_name(name, full=full)
