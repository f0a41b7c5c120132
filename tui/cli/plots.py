"""The curves of a comparison as a picture, by matplotlib, which is an extra of its own."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from engine.metrics.registry import metric_of

if TYPE_CHECKING:
    from jobs.comparison.compare import Comparison
    from jobs.comparison.evaluations import RunScores

_SUFFIXES = (".svg", ".png", ".pdf")
_CLOCKS = {
    "updates": "updates",
    "items": "items",
    "epochs": "epochs",
    "wall_clock": "training time (s)",
}


def check_plot(file: Path) -> None:
    """Refuse what can't be drawn before anything is computed.

    Raises:
        click.UsageError: when matplotlib is absent, or the file has another suffix.
    """
    if file.suffix.lower() not in _SUFFIXES:
        raise click.UsageError(f"--plot {file}: expected a file ending in {', '.join(_SUFFIXES)}")
    if find_spec("matplotlib") is None:
        raise click.UsageError(
            "--plot needs matplotlib, which is not installed: pip install 'sepdash[plots]' "
            "(from a checkout: uv sync --extra plots)"
        )


def draw(found: Comparison, file: Path) -> None:
    """Draw a chart for each metric: every run thin, the best of each run marked, budget dashed."""
    from matplotlib.figure import Figure

    count = len(found.tables)
    columns = 1 if count == 1 else 2
    rows = -(-count // columns)
    figure = Figure(figsize=(6.4 * columns, 4.0 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    colours = {row.variant: f"C{i}" for i, row in enumerate(next(iter(found.tables.values())))}
    for metric, chart in zip(found.tables, axes, strict=False):
        _draw_metric(chart, found, metric, colours)
    for chart in axes[count:]:
        chart.set_axis_off()
    axes[0].legend(loc="best", fontsize="small")
    try:
        figure.savefig(file.expanduser())
    except OSError as error:
        raise click.UsageError(f"{file} can't be written: {error.strerror}") from None


def _draw_metric(chart: Any, found: Comparison, metric: str, colours: dict[str, str]) -> None:
    named: set[str] = set()
    scale = metric_of(metric).scale
    for scores in found.runs:
        points = scores.points.get(metric, [])
        if not points:
            continue
        label = None if scores.variant in named else scores.variant
        named.add(scores.variant)
        colour = colours[scores.variant]
        x, y = [point.at for point in points], [point.value * scale for point in points]
        chart.plot(x, y, color=colour, linewidth=1.2, alpha=0.8, label=label)
        _mark_best(chart, found, scores, metric=metric, colour=colour)
    chart.axvline(found.budget, color="0.6", linewidth=0.8, linestyle="--")
    chart.set_title(metric)
    chart.set_xlabel(_CLOCKS[found.by])
    chart.set_ylabel(metric_of(metric).unit)
    chart.grid(visible=True, alpha=0.25)


def _mark_best(
    chart: Any, found: Comparison, scores: RunScores, *, metric: str, colour: str
) -> None:
    best = scores.point(metric, "best", found.budget)
    if best is not None:
        value = best.value * metric_of(metric).scale
        chart.plot([best.at], [value], color=colour, marker="o", markersize=4)
