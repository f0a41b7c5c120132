"""Converts the data of the feed to the four charts of the dashboard. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import takewhile

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
from jobs.store.records import Curve, RunRecord, SystemRecord
from tui.live.messages import RunData
from tui.reports.formats import count
from tui.widgets.charts.braille import FloatArray
from tui.widgets.charts.plot import PALETTE_SIZE, Line, Plot, x_range

CLOCKS = ("updates", "items", "epochs", "audio time", "train time")
CHARTS = ("loss", "score", "throughput", "memory")
_GREY = PALETTE_SIZE - 1
# Colours that no line of a single run has.
_FIRST_FREE = 3
# A drawn line curves are drawn as a running mean over this fraction of their points.
_SMOOTH = 1 / 40
_NOISY = ("loss", "audio_s_per_s", "updates_per_s")
# Charts of what training measures: skipped updates are in none of their averages, and marked.
_MARKED = ("loss", "score")
_GIB = float(1024**3)


def build(
    data: Sequence[RunData],
    colours: Mapping[int, int],
    *,
    clock: str = "updates",
    log: bool = False,
    metric: str = "",
) -> dict[str, Plot]:
    """Return the plots by name; several runs are labelled and coloured individually.

    Args:
        data: the runs, the selected one first.
        colours: of the runs, by id.
        clock: the horizontal axis.
        log: whether the loss has a logarithmic axis.
        metric: what the chart of scores shows; where the first run has none, that by which it is listed.
    """
    if not data:
        return {name: Plot(*_titles(name), x_unit=clock, empty="") for name in CHARTS}
    if not any(_has_points(item) for item in data[1:]):
        data = data[:1]
    many = len(data) > 1
    if metric not in charted_names(data[0].latest):
        metric = data[0].run.metric
    lines = {
        "loss": _loss(data, colours, clock=clock, many=many),
        "score": _score(data, colours, metric=metric, clock=clock, many=many),
        "throughput": _throughput(data, colours, clock=clock, many=many),
    }
    drawn = [line for group in lines.values() for line in group if line.drawn and len(line.x)]
    shared = x_range(drawn) if drawn else None
    unknown = "epochs unknown (trained by an earlier version)"
    waiting = unknown if _is_unknown(data[0].run, clock) else _waiting(data[0].run)
    if not many:
        for name, more in _measured_in_training(data[0], clock, metric=metric).items():
            lines[name] += more
    plots = {
        name: Plot(
            *_titles(name, data[0], metric=metric),
            lines=tuple(group),
            x_unit=clock,
            x_range=shared,
            log=log and name == "loss",
            from_zero=name == "throughput",
            empty="no evaluation yet" if name == "score" and not waiting else waiting,
        )
        for name, group in lines.items()
    }
    plots["memory"] = Plot(
        *_titles("memory"),
        lines=tuple(_memory(data, colours, many=many)),
        x_unit="time",
        from_zero=True,
        empty=_waiting(data[0].run) or "no data yet",
    )
    if many:
        plots["throughput"] = replace(plots["throughput"], unit="audio s/s")
    else:
        plots |= {name: _marked(plots[name], data[0], clock=clock) for name in _MARKED}
    return {name: plots[name] for name in CHARTS}


def next_metric(data: Sequence[RunData], metric: str) -> str:
    """Return the metric of the first run that is charted after `metric`; empty where it has only one."""
    if not data:
        return ""
    headline = data[0].run.metric
    names = [headline, *(name for name in charted_names(data[0].latest) if name != headline)]
    place = names.index(metric) if metric in names else 0
    return names[(place + 1) % len(names)] if len(names) > 1 else ""


def short_names(data: Sequence[RunData]) -> dict[int, str]:
    """Return the names of runs by id, without their common prefix."""
    names = [item.run.name for item in data]
    same = takewhile(lambda chars: len(set(chars)) == 1, zip(*names, strict=False))
    common = "".join(chars[0] for chars in same)[: min(map(len, names)) - 1]
    cut = common.rfind("-") + 1
    return {item.run.id: item.run.name[cut:] for item in data}


def _has_points(item: RunData) -> bool:
    return any(curve.updates for curve in item.curves.values())


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


def _waiting(run: RunRecord) -> str:
    if run.waiting:
        return "waiting for another run"
    if run.state == "queued":
        return "waiting in the queue"
    return "" if run.updates else "no data yet"


def _loss(
    data: Sequence[RunData], colours: Mapping[int, int], *, clock: str, many: bool
) -> list[Line]:
    lines = _one_each(data, "loss", label="train", colours=colours, clock=clock, many=many)
    if not many:
        lines.append(line_of(data[0], LOSS, label="valid", colour=1, clock=clock))
    return lines


def _one_each(
    data: Sequence[RunData],
    series: str,
    *,
    label: str,
    colours: Mapping[int, int],
    clock: str,
    many: bool,
) -> list[Line]:
    """Return one line per run, labelled with its name; a single run gets `label` and a band."""
    names = short_names(data)
    return [
        line_of(
            item,
            series,
            label=names[item.run.id] if many else label,
            colour=colours.get(item.run.id, 0) if many else 0,
            clock=clock,
            band=not many,
        )
        for item in data
    ]


def _score(
    data: Sequence[RunData],
    colours: Mapping[int, int],
    *,
    metric: str,
    clock: str,
    many: bool,
) -> list[Line]:
    """Return the lines of a metric; runs that are listed by another one are skipped, unless they have it."""
    names = short_names(data)
    is_headline = metric == data[0].run.metric
    data = [
        item
        for item in data
        if item.run.metric == metric or (not is_headline and metric in charted_names(item.latest))
    ]
    if many:
        lines = [
            line_of(
                item,
                _judged(item, metric),
                label=names[item.run.id],
                colour=colours.get(item.run.id, 0),
                clock=clock,
            )
            for item in data
        ]
    else:
        name = _evaluated(data[0], metric)
        lines = [
            line_of(data[0], stored_name(name, ema=True), label="EMA", colour=1, clock=clock),
            line_of(data[0], name, label="raw", colour=0, clock=clock),
        ]
        if (whole := _whole(data[0], name)) is not None:
            lines.append(line_of(data[0], whole, label="whole", colour=2, clock=clock))
    scale = metric_of(metric).scale
    if scale != 1:
        lines = [replace(line, mean=line.mean * scale) for line in lines]
    inputs = {item.run.input_score for item in data if is_headline} - {None}
    axes = [line.x for line in lines if len(line.x)]
    if len(inputs) == 1 and axes:
        ends = np.array([min(x[0] for x in axes), max(x[-1] for x in axes)])
        level = np.full(2, float(inputs.pop() or 0.0))
        lines.append(Line("input", _GREY, x=ends, mean=level, dotted=True))
    return lines


def _marked(plot: Plot, item: RunData, *, clock: str) -> Plot:
    """Return the plot with marks where updates were skipped, and how many; its curves leave them out."""
    curve = item.curves.get(SKIPPED)
    if curve is None or not curve.updates or _is_unknown(item.run, clock):
        return plot
    number = np.array(curve.last, dtype=np.float64)
    x = np.array(curve.updates, dtype=np.float64) * _per_update(item.run, clock)
    marks = x[np.diff(number, prepend=0.0) > 0]
    return replace(plot, marks=marks, marks_label=f"{count(number[-1])} skipped")


def _measured_in_training(item: RunData, clock: str, *, metric: str) -> dict[str, list[Line]]:
    """Return what the recipe measures in training, by chart: of the score or of the loss, whose unit it has.

    What has the unit of neither is in the legend of the loss only. Beside a metric that was asked for, only
    that one is drawn.
    """
    is_headline = metric == item.run.metric
    units = {name: _titles(name, item, metric=metric)[1] for name in ("score", "loss")}
    lines: dict[str, list[Line]] = {"score": [], "loss": []}
    colours = range(_FIRST_FREE, _GREY)
    for colour, name in zip(colours, training_names(item.curves), strict=False):
        known = metric_of(name)
        asked = not is_headline and name == metric
        label = "train" if asked else known.title
        line = line_of(item, name, label=label, colour=colour, clock=clock)
        line = replace(line, mean=running_mean(line.mean * known.scale, _window(line.mean)))
        unit = known.unit or item.curves[name].unit
        charts = {chart: its for chart, its in units.items() if chart == "loss" or is_headline}
        chart = "score" if asked else next((c for c, its in charts.items() if its == unit), None)
        lines[chart or "loss"].append(replace(line, drawn=chart is not None))
    return lines


def _evaluated(item: RunData, metric: str) -> str:
    """Return the name that a metric has in the evaluations of a run."""
    of_training = evaluated_name(metric)
    return (
        of_training if any(name in item.curves for name in _with_average(of_training)) else metric
    )


def _with_average(name: str, *, full: bool = False) -> tuple[str, str]:
    return stored_name(name, full=full, ema=True), stored_name(name, full=full)


def _judged(item: RunData, metric: str) -> str:
    """Return the series of a metric by which the run is evaluated: EMA where it has one; else whole files."""
    name = _evaluated(item, metric)
    average, raw = _with_average(name)
    for series in (average, raw):
        if (curve := item.curves.get(series)) is not None and curve.updates:
            return series
    return _whole(item, name) or raw


def _whole(item: RunData, metric: str) -> str | None:
    """Return the series of a metric on whole files: that of the EMA if it has one."""
    names = _with_average(metric, full=True)
    return next((name for name in names if (c := item.curves.get(name)) and c.updates), None)


def _throughput(
    data: Sequence[RunData], colours: Mapping[int, int], *, clock: str, many: bool
) -> list[Line]:
    lines = _one_each(
        data, "audio_s_per_s", label="audio s/s", colours=colours, clock=clock, many=many
    )
    if not many:
        rate = line_of(data[0], "updates_per_s", label="updates/s", colour=1, clock=clock)
        lines.append(Line(rate.label, 1, x=rate.x, mean=rate.mean, drawn=False))
    return lines


def _memory(data: Sequence[RunData], colours: Mapping[int, int], *, many: bool) -> list[Line]:
    lines, names = [], short_names(data)
    for item in data:
        samples = item.system
        if not samples:
            continue
        time = np.array([sample.time - samples[0].time for sample in samples])
        vram = _gib([sample.vram_bytes for sample in samples])
        ram = _gib([_ram(sample) for sample in samples])
        colour = colours.get(item.run.id, 0)
        if many:
            on_gpu = bool(np.isfinite(vram).any())
            lines.append(Line(names[item.run.id], colour, x=time, mean=vram if on_gpu else ram))
        else:
            lines += [Line("RAM", 0, x=time, mean=ram), Line("VRAM", 1, x=time, mean=vram)]
    return lines


def _ram(sample: SystemRecord) -> int:
    return sample.ram_bytes if sample.process_ram_bytes is None else sample.process_ram_bytes


def _gib(sizes: Sequence[int | None]) -> FloatArray:
    return np.array(sizes, dtype=np.float64) / _GIB


def line_of(
    item: RunData, name: str, *, label: str, colour: int, clock: str, band: bool = False
) -> Line:
    """Return one curve of a run on a clock; empty where the run has no such series.

    A noisy curve is drawn as its running mean; with `band`, over the range of its points.
    """
    nothing = Curve(name, "", bucket=1, updates=[], low=[], high=[], mean=[], last=[])
    curve = nothing if _is_unknown(item.run, clock) else item.curves.get(name, nothing)
    x = np.array(curve.updates, dtype=np.float64) * _per_update(item.run, clock)
    mean = np.array(curve.mean, dtype=np.float64)
    if name in _NOISY:
        mean = running_mean(mean, _window(mean))
    if not band:
        return Line(label, colour, x=x, mean=mean)
    low, high = (np.array(part, dtype=np.float64) for part in (curve.low, curve.high))
    return Line(label, colour, x=x, mean=mean, low=low, high=high)


def _window(values: FloatArray) -> int:
    return round(len(values) * _SMOOTH)


def running_mean(values: FloatArray, window: int) -> FloatArray:
    """Return the mean of each value and the `window` - 1 before it; NaN counts as no value."""
    if window < 2:
        return values
    finite = np.isfinite(values)
    total = np.cumsum(np.where(finite, values, 0.0))
    number = np.cumsum(finite).astype(np.float64)
    total[window:] -= total[:-window].copy()
    number[window:] -= number[:-window].copy()
    mean = np.divide(total, number, out=np.full_like(total, np.nan), where=number > 0)
    return np.where(finite, mean, np.nan)


def _is_unknown(run: RunRecord, clock: str) -> bool:
    return clock == "epochs" and run.updates > 0 and not run.epochs


def _per_update(run: RunRecord, clock: str) -> float:
    amount = {
        "updates": float(run.updates),
        "items": float(run.items),
        "epochs": run.epochs,
        "audio time": run.audio_seconds,
        "train time": run.train_seconds,
    }[clock]
    return amount / run.updates if run.updates else 1.0
