"""Converts the data of the feed to the four charts of the dashboard. Pure functions.

Runs share an axis only where their values mean the same, and have the same unit: `groups` says which do. The
others are plots `apart`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from engine.metrics.registry import (
    BUILT_IN,
    LOSS,
    SKIPPED,
    charted_names,
    evaluated_name,
    metric_of,
    stored_name,
    training_names,
)
from jobs.store.records import RunRecord
from tui.live.messages import RunData
from tui.reports.formats import count
from tui.widgets.charts import memory
from tui.widgets.charts.curves import (
    evaluated,
    is_unknown,
    judged,
    line_of,
    per_update,
    short_names,
    whole,
)
from tui.widgets.charts.dotted import (
    GREY,
    evaluated_references,
    inputs,
    of_training_items,
    references,
)
from tui.widgets.charts.figure import Line, Plot, each, parts, together, x_range
from tui.widgets.charts.groups import Group, groups_of
from tui.widgets.charts.terms import divided, terms_of, terms_of_one, terms_of_several
from tui.widgets.charts.view import DEFAULT, View

CHARTS = ("loss", "score", "throughput", "memory")
# Colours that no line of a single run has.
_FIRST_FREE = 3
_SPEED = "audio_s_per_s"
# Charts of what training measures: skipped updates are in none of their averages, and marked.
_MARKED = ("loss", "score")

Colours = Mapping[int, int]


def build(data: Sequence[RunData], colours: Colours, *, view: View = DEFAULT) -> dict[str, Plot]:
    """Return the plots by name; several runs are labelled and coloured individually.

    Args:
        data: the runs, the selected one first.
        colours: of the runs, by id.
        view: how they are shown.
    """
    if not data:
        return {name: Plot(*_titles(name), x_unit=view.clock, empty="") for name in CHARTS}
    if not any(_has_points(item) for item in data[1:]):
        data = data[:1]
    if view.metric not in charted_names(data[0].latest):
        view = replace(view, metric=data[0].run.metric)
    plots = _of_one(data[0], view) if len(data) == 1 else _of_several(data, colours, view=view)
    clocked = ("loss", "score", "throughput")
    drawn = [
        line
        for name in clocked
        for plot in parts(plots[name])
        for line in plot.lines
        if line.drawn and len(line.x)
    ]
    shared = x_range(drawn) if drawn else None
    unknown = "epochs unknown (trained by an earlier version)"
    waiting = unknown if is_unknown(data[0].run, view.clock) else _waiting(data[0].run)
    for name in clocked:
        empty = _no_score(data[0], view) if name == "score" and not waiting else waiting
        plots[name] = _with_axes(plots[name], name, view=view, shared=shared, empty=empty)
    missing = _waiting(data[0].run) or "no data yet"
    plots["memory"] = each(plots["memory"], x_unit="time", from_zero=True, empty=missing)
    if len(data) == 1:
        plots |= {name: _marked(plots[name], data[0], clock=view.clock) for name in _MARKED}
    return {name: plots[name] for name in CHARTS}


def next_metric(data: Sequence[RunData], metric: str) -> str:
    """Return the metric of the first run that is charted after `metric`; empty where it has only one."""
    if not data:
        return ""
    headline = data[0].run.metric
    names = [headline, *(name for name in charted_names(data[0].latest) if name != headline)]
    place = names.index(metric) if metric in names else 0
    return names[(place + 1) % len(names)] if len(names) > 1 else ""


def _of_one(item: RunData, view: View) -> dict[str, Plot]:
    """Return the charts of one run, each with all its curves."""
    lines = {
        "loss": [
            line_of(item, "loss", label="train", colour=0, view=view, band=True, noisy=True),
            line_of(item, LOSS, label="valid", colour=1, view=view),
            *of_training_items(item, LOSS, view=view),
        ],
        "score": [
            *_evaluations(item, view),
            *inputs([item], view),
            *evaluated_references(item, view),
        ],
        "throughput": [
            line_of(item, _SPEED, label="audio s/s", colour=0, view=view, band=True, noisy=True),
            replace(
                line_of(item, "updates_per_s", label="updates/s", colour=1, view=view), drawn=False
            ),
        ],
        "memory": memory.lines_of_one(item),
    }
    for name, more in _measured_in_training(item, view).items():
        lines[name] += more
    plots = {
        name: Plot(*_titles(name, item, metric=view.metric), lines=tuple(group))
        for name, group in lines.items()
    }
    return plots | {"loss": divided(plots["loss"], item, terms=terms_of_one(item, view))}


def _of_several(data: Sequence[RunData], colours: Colours, *, view: View) -> dict[str, Plot]:
    """Return the charts of several runs, one curve each; what does not mean the same has a plot apart."""
    names = short_names(data)

    def line(item: RunData, series: str, *, noisy: bool) -> Line:
        label, colour = names[item.run.id], colours.get(item.run.id, 0)
        return line_of(item, series, label=label, colour=colour, view=view, noisy=noisy)

    def trained(group: Group, series: str) -> tuple[Line, ...]:
        return tuple(line(item, series, noisy=True) for item in group.items)

    losses = together(
        [
            Plot(
                *_titles("loss", _measured(group, "loss")),
                lines=trained(group, "loss"),
                note=group.note,
            )
            for group in groups_of(data, LOSS, series=lambda item: "loss")
        ]
    )
    speeds = [line(item, _SPEED, noisy=True) for item in data]
    return {
        "loss": divided(losses, data[0], terms=terms_of_several(data, trained)),
        "score": together(
            [
                Plot(
                    *_titles("score", group.items[0], metric=metric),
                    lines=(
                        *(line(item, judged(item, metric), noisy=False) for item in group.items),
                        *inputs(group.items, replace(view, metric=metric)),
                        *references(group.items[0], [metric], view=view),
                    ),
                    note=group.note,
                )
                for metric, group in _scores(data, view.metric)
            ]
        ),
        "throughput": Plot(_titles("throughput")[0], "audio s/s", lines=tuple(speeds)),
        "memory": together(
            [
                Plot(_titles("memory")[0], f"GiB {what}", lines=tuple(lines), note=what)
                for what, lines in memory.lines_of_several(data, colours).items()
            ]
            or [Plot(*_titles("memory"))]
        ),
    }


def _scores(data: Sequence[RunData], metric: str) -> list[tuple[str, Group]]:
    """Return the groups of a chart of scores, each with its metric.

    Of the metric by which the first run is listed, runs that are listed by others come apart. Of another one,
    runs that don't have it are left out.
    """
    if metric != data[0].run.metric:
        having = [item for item in data if metric in charted_names(item.latest)]
        return [
            (metric, group)
            for group in groups_of(having, metric, series=partial(judged, metric=metric))
        ]
    found = []
    for name in dict.fromkeys(item.run.metric for item in data):
        listed = [item for item in data if item.run.metric == name]
        for group in groups_of(listed, name, series=partial(judged, metric=name)):
            if name == metric:
                found.append((name, group))
            elif any(_has_points(item) for item in group.items):
                found.append((name, replace(group, note=group.note or metric_of(name).title)))
    return found


def _with_axes(
    plot: Plot, name: str, *, view: View, shared: tuple[float, float] | None, empty: str
) -> Plot:
    log, from_zero = view.log and name == "loss", name == "throughput"
    return each(plot, x_unit=view.clock, x_range=shared, log=log, from_zero=from_zero, empty=empty)


def _has_points(item: RunData) -> bool:
    return any(curve.updates for curve in item.curves.values())


def _measured(group: Group, series: str) -> RunData:
    """Return the first run of a group that has a curve."""
    return next((item for item in group.items if series in item.curves), group.items[0])


def _titles(name: str, item: RunData | None = None, *, metric: str = "") -> tuple[str, str]:
    loss = item.curves.get("loss") if item else None
    score = metric_of(metric) if metric else BUILT_IN[0]
    unit = score.unit or _unit_in(item, metric)
    return {
        "loss": ("Loss", loss.unit if loss else ""),
        "score": (score.title, unit),
        "throughput": ("Speed", ""),
        "memory": ("Memory", "GiB"),
    }[name]


def _unit_in(item: RunData | None, metric: str) -> str:
    """Return the unit that the curves of a metric were recorded with."""
    names = (metric, evaluated_name(metric)) if item else ()
    return next((curve.unit for name in names if item and (curve := item.curves.get(name))), "")


def _no_score(item: RunData, view: View) -> str:
    needed = metric_of(view.metric).needs if view.metric else ""
    # Evaluated, but not by this metric, which it never will be.
    return f"not measured: set {needed}" if needed and LOSS in item.latest else "no evaluation yet"


def _waiting(run: RunRecord) -> str:
    if run.waiting:
        return "waiting for another run"
    if run.state == "queued":
        return "waiting in the queue"
    return "" if run.updates else "no data yet"


def _evaluations(item: RunData, view: View) -> list[Line]:
    """Return the curves of a metric of one run: of the averaged weights, of the weights, of whole files."""
    name = evaluated(item, view.metric)
    lines = [
        line_of(item, stored_name(name, ema=True), label="EMA", colour=1, view=view),
        line_of(item, name, label="raw", colour=0, view=view),
    ]
    if (of_files := whole(item, name)) is not None:
        lines.append(line_of(item, of_files, label="whole", colour=2, view=view))
    return lines + of_training_items(item, name, view=view)


def _marked(plot: Plot, item: RunData, *, clock: str) -> Plot:
    """Return the plot with marks where updates were skipped, and how many; its curves leave them out."""
    curve = item.curves.get(SKIPPED)
    if curve is None or not curve.updates or is_unknown(item.run, clock):
        return plot
    number = np.array(curve.last, dtype=np.float64)
    x = np.array(curve.updates, dtype=np.float64) * per_update(item.run, clock)
    marks = x[np.diff(number, prepend=0.0) > 0]
    return replace(plot, marks=marks, marks_label=f"{count(number[-1])} skipped")


def _measured_in_training(item: RunData, view: View) -> dict[str, list[Line]]:
    """Return what the recipe measures in training, by chart: of the score or of the loss, whose unit it has.

    What has the unit of neither is in the legend of the loss only, and so is what no colour is left for. Terms
    of the loss have plots of their own.
    Beside a metric that was asked for, only that one is drawn. The reference of what is drawn is dotted.
    """
    is_headline = view.metric == item.run.metric
    units = {name: _titles(name, item, metric=view.metric)[1] for name in ("score", "loss")}
    charts = {chart: unit for chart, unit in units.items() if chart == "loss" or is_headline}
    rises = metric_of(view.metric).rises
    names = training_names(item.curves)
    elsewhere = {metric_of(name).reference for name in names} | {*terms_of(item)}
    asked_for = set() if is_headline else {view.metric}
    colours = iter(range(_FIRST_FREE, GREY))
    lines: dict[str, list[Line]] = {"score": [], "loss": []}
    drawn: dict[str, list[str]] = {"score": [], "loss": []}
    for name in sorted({*names} - (elsewhere - asked_for), key=_losses_first):
        asked = name in asked_for
        unit = metric_of(name).unit or item.curves[name].unit
        # An accuracy beside an error rate reads as if it got worse.
        fitting = charts if metric_of(name).rises == rises else {"loss": units["loss"]}
        chart = "score" if asked else _fitting(name, unit, charts=fitting)
        colour = next(colours, None) if chart else None
        label = "train" if asked else metric_of(name).title
        line = line_of(item, name, label=label, colour=colour or GREY, view=view, noisy=True)
        lines[chart or "loss"].append(replace(line, drawn=colour is not None))
        if chart and colour is not None:
            drawn[chart].append(name)
    return {
        chart: [*own, *references(item, drawn[chart], view=view)] for chart, own in lines.items()
    }


def _fitting(name: str, unit: str, *, charts: Mapping[str, str]) -> str | None:
    """Return the chart whose unit a training metric has; without a unit, a loss alone is like another loss."""
    if not (unit or _is_loss(name)):
        return None
    order = ("loss", "score") if _is_loss(name) else ("score", "loss")
    return next((chart for chart in order if charts.get(chart) == unit), None)


def _is_loss(name: str) -> bool:
    return metric_of(name).family == "loss"


def _losses_first(name: str) -> tuple[bool, str]:
    return not _is_loss(name), name
