"""What a chart draws dotted beside the curves of runs: training items, the unprocessed input, references. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from engine.metrics.registry import metric_of, stored_name
from tui.live.messages import RunData
from tui.widgets.charts.curves import judged, level_of, line_of
from tui.widgets.charts.figure import PALETTE_SIZE, Line
from tui.widgets.charts.view import View

GREY = PALETTE_SIZE - 1


def of_training_items(item: RunData, name: str, *, view: View) -> list[Line]:
    """Return the curve of training items that were scored as validation items are, dotted, where there is one."""
    series = stored_name(name, train=True)
    if (curve := item.curves.get(series)) is None or not curve.updates:
        return []
    line = line_of(item, series, label="train, evaluated", colour=0, view=view)
    return [replace(line, dotted=True)]


def inputs(data: Sequence[RunData], view: View) -> list[Line]:
    """Return the score of the input as a dotted line, where runs listed by the metric have the same one."""
    scores = {item.run.input_score for item in data if item.run.metric == view.metric} - {None}
    if len(scores) != 1:
        return []
    level = float(scores.pop() or 0.0) * metric_of(view.metric).scale
    series = [(item, judged(item, view.metric)) for item in data]
    return level_of(series, level, label="input", colour=GREY, view=view)


def evaluated_references(item: RunData, view: View) -> list[Line]:
    """Return those of a metric that only evaluations measure; others have them beside their own curve."""
    of_training = not view.metric or metric_of(view.metric).of_training
    return [] if of_training else references(item, [view.metric], view=view)


def references(item: RunData, metrics: Sequence[str], *, view: View) -> list[Line]:
    """Return what the metrics are to be seen against, such as chance, as dotted lines."""
    names = dict.fromkeys(metric_of(name).reference for name in metrics)
    curves = [
        replace(
            line_of(item, name, label=metric_of(name).title, colour=GREY, view=view), dotted=True
        )
        for name in names
        if name and name in item.curves
    ]
    for name in metrics:
        chance = metric_of(name).chance
        level = chance(item.config) if chance else None
        if level is not None:
            series = [(item, judged(item, name)), (item, name)]
            level *= metric_of(name).scale
            curves += level_of(series, level, label="chance", colour=GREY, view=view)
    return curves
