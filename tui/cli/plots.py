"""Plots the curves of a comparison to an image with matplotlib, an optional dependency."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from engine.metrics.registry import metric_of
from models.user_paths import expanded

if TYPE_CHECKING:
    from jobs.comparison.evaluations import RunScores
    from jobs.comparison.result import Comparison

_SUFFIXES = (".svg", ".png", ".pdf")
_CLOCKS = {
    "updates": "updates",
    "items": "items",
    "epochs": "epochs",
    "wall_clock": "training time (s)",
}


def check_plot(file: Path) -> None:
    """Check that the plot can be drawn, before anything is computed.

    Raises:
        click.UsageError: when matplotlib is not installed, or the suffix is unsupported.
    """
    if file.suffix.lower() not in _SUFFIXES:
        raise click.UsageError(
            f"--plot {file}: expected a file name ending in {', '.join(_SUFFIXES)}"
        )
    if find_spec("matplotlib") is None:
        raise click.UsageError(
            "--plot requires matplotlib, which is not installed: pip install 'sepdash[plots]' "
            "(from a checkout: uv sync --extra plots)"
        )


def draw(comparison: Comparison, file: Path) -> None:
    """Draw one chart per metric: a thin line per run with its best point marked, the budget dashed."""
    from matplotlib.figure import Figure

    count = len(comparison.tables)
    columns = 1 if count == 1 else 2
    rows = -(-count // columns)
    figure = Figure(figsize=(6.4 * columns, 4.0 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    colours = {row.variant: f"C{i}" for i, row in enumerate(next(iter(comparison.tables.values())))}
    for metric, chart in zip(comparison.tables, axes, strict=False):
        _draw_metric(chart, comparison, metric=metric, colours=colours)
    for chart in axes[count:]:
        chart.set_axis_off()
    axes[0].legend(loc="best", fontsize="small")
    try:
        figure.savefig(expanded(file))
    except OSError as error:
        raise click.UsageError(f"{file} can't be written: {error.strerror}") from None


def _draw_metric(
    chart: Any, comparison: Comparison, *, metric: str, colours: dict[str, str]
) -> None:
    named: set[str] = set()
    scale = metric_of(metric).scale
    for scores in comparison.runs:
        points = scores.points.get(metric, [])
        if not points:
            continue
        label = None if scores.variant in named else scores.variant
        named.add(scores.variant)
        colour = colours[scores.variant]
        x, y = [point.at for point in points], [point.value * scale for point in points]
        chart.plot(x, y, color=colour, linewidth=1.2, alpha=0.8, label=label)
        _mark_best(chart, comparison, scores=scores, metric=metric, colour=colour)
    chart.axvline(comparison.budget, color="0.6", linewidth=0.8, linestyle="--")
    chart.set_title(metric)
    chart.set_xlabel(_CLOCKS[comparison.by])
    chart.set_ylabel(metric_of(metric).unit)
    chart.grid(visible=True, alpha=0.25)


def _mark_best(
    chart: Any, comparison: Comparison, *, scores: RunScores, metric: str, colour: str
) -> None:
    best = comparison.best_points[metric].get(scores.run.id)
    if best is not None:
        value = best.value * metric_of(metric).scale
        chart.plot([best.at], [value], color=colour, marker="o", markersize=4)
