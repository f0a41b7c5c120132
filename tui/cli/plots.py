"""Plots a comparison to an image with matplotlib, an optional dependency.

The metric that decides has three charts: curves, the value of each run as a point, and differences with
their intervals. The others have their curves. What limits the comparison stands below the charts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from math import isfinite
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any
from warnings import catch_warnings, filterwarnings

import click

from engine.metrics.registry import metric_of
from models.user_paths import expanded
from tui.reports import comparison as words
from tui.reports import formats

if TYPE_CHECKING:
    from jobs.comparison.evaluations import RunScores
    from jobs.comparison.result import Comparison, Row

_SUFFIXES = (".svg", ".png", ".pdf")
_CLOCKS = {
    "updates": "updates",
    "items": "items",
    "epochs": "epochs",
    "wall_clock": "training time (s)",
}
_COLUMNS = 3
_CHART = (5.0, 3.6)
# Height of a row of the chart of differences, in inches.
_ROW = 0.3
# The default cycle of matplotlib has no more.
_FEW_COLOURS = 10
# Characters of the caption in the width of the figure, and its height in inches per line.
_CAPTION = 200
_LINE = 0.19
# Points of one variant lie side by side within this share of the distance between variants.
_SPREAD = 0.3
_LONGEST_NAME = 24


def check_plot(file: Path) -> None:
    """Check that the plot can be drawn, before anything is computed.

    Raises:
        click.UsageError: when matplotlib is not installed, the suffix is unsupported, or the folder of
            the file does not exist.
    """
    if file.suffix.lower() not in _SUFFIXES:
        raise click.UsageError(
            f"--plot {file}: expected a file name ending in {', '.join(_SUFFIXES)}"
        )
    if not expanded(file).parent.is_dir():
        raise click.UsageError(f"--plot {file}: the folder {file.parent} does not exist")
    if find_spec("matplotlib") is None:
        raise click.UsageError(
            "--plot requires matplotlib, which is not installed: pip install 'sepdash[plots]' "
            "(from a checkout: uv sync --extra plots)"
        )


def draw(comparison: Comparison, file: Path) -> None:
    """Draw the charts, the metric that decides first, and the caption."""
    from matplotlib.figure import Figure

    decides, *others = sorted(comparison.tables, key=lambda name: name != comparison.headline)
    count = 3 + len(others)
    rows = -(-count // _COLUMNS)
    caption = list(_caption(comparison))
    variants = [row.variant for row in comparison.tables[decides]]
    heights = [max(_CHART[1], _ROW * (len(variants) + 3)), *[_CHART[1]] * (rows - 1)]
    size = (_CHART[0] * _COLUMNS, sum(heights) + _LINE * len(caption))
    figure = Figure(figsize=size, layout="constrained")
    charts = figure.subplots(rows, _COLUMNS, squeeze=False, height_ratios=heights).flatten()
    colours = _colours(variants)
    _draw_curves(charts[0], comparison, metric=decides, colours=colours)
    _draw_seeds(charts[1], comparison, metric=decides, colours=colours)
    _draw_differences(charts[2], comparison, metric=decides, colours=colours)
    for metric, chart in zip(others, charts[3:], strict=False):
        _draw_curves(chart, comparison, metric=metric, colours=colours)
    for chart in charts[count:]:
        chart.set_axis_off()
    legend = charts[0].legend(loc="best", fontsize="small")
    for text in legend.get_texts():
        text.set_parse_math(False)
    figure.supxlabel("\n".join(caption), x=0.01, ha="left", fontsize="small", parse_math=False)
    save(figure, file)


def save(figure: Any, file: Path) -> None:
    """Write a figure.

    Raises:
        click.UsageError: when the file can't be written.
    """
    try:
        with catch_warnings():
            # The font has no Chinese or Japanese; the plot shows boxes.
            filterwarnings("ignore", "Glyph .* missing from")
            figure.savefig(expanded(file))
    except OSError as error:
        raise click.UsageError(f"{file} can't be written: {error.strerror}") from None


def _caption(comparison: Comparison) -> Iterator[str]:
    """Yield what limits the comparison, in lines that fit below the charts."""
    texts = [words.title(comparison), *words.remarks(comparison, comparison.headline)]
    texts += [formats.clean(note) for note in comparison.notes]
    for text in texts:
        yield from wrap(text, _CAPTION, subsequent_indent="    ")


def _draw_curves(
    chart: Any, comparison: Comparison, *, metric: str, colours: dict[str, Any]
) -> None:
    """Draw a thin line per run, its best point marked, and the common progress dashed."""
    named: set[str] = set()
    scale = metric_of(metric).scale
    for scores in comparison.runs:
        points = scores.points.get(metric, [])
        if not points:
            continue
        # A label that starts with an underline would be left out of the legend.
        label = None if scores.variant in named else f" {_name(scores.variant)}"
        named.add(scores.variant)
        colour = colours[scores.variant]
        x, y = [point.at for point in points], [point.value * scale for point in points]
        chart.plot(x, y, color=colour, linewidth=1.2, alpha=0.8, label=label)
        _mark_best(chart, comparison, scores=scores, metric=metric, colour=colour)
    chart.axvline(comparison.budget, color="0.6", linewidth=0.8, linestyle="--")
    role = "" if metric == comparison.headline else " (exploratory)"
    chart.set_title(f"{metric}{role}")
    chart.set_xlabel(_CLOCKS[comparison.by])
    chart.set_ylabel(metric_of(metric).unit)
    chart.grid(visible=True, alpha=0.25)


def _mark_best(
    chart: Any, comparison: Comparison, *, scores: RunScores, metric: str, colour: Any
) -> None:
    best = comparison.best_points[metric].get(scores.run.id)
    if best is not None:
        value = best.value * metric_of(metric).scale
        chart.plot([best.at], [value], color=colour, marker="o", markersize=4)


def _draw_seeds(
    chart: Any, comparison: Comparison, *, metric: str, colours: dict[str, Any]
) -> None:
    """Draw one point per run, and the mean of each variant as a bar across its points."""
    scale = metric_of(metric).scale
    rows = comparison.tables[metric]
    for place, row in enumerate(rows):
        runs = words.values_of_runs(comparison, metric, row=row)
        values = [best if comparison.when == "best" else final for _, best, final in runs]
        known = [value * scale for value in values if value is not None and isfinite(value)]
        if not known:
            continue
        middle = (len(known) - 1) / 2
        x = [place + _SPREAD * (i - middle) / max(1.0, middle) / 2 for i in range(len(known))]
        chart.plot(x, known, color=colours[row.variant], marker="o", linestyle="none", alpha=0.8)
        mean = sum(known) / len(known)
        chart.plot([place - 0.3, place + 0.3], [mean, mean], color=colours[row.variant])
    chart.set_title(f"{metric}: each run, and means (bars)")
    chart.set_xlim(-0.6, len(rows) - 0.4)
    _name_variants(chart.set_xticks, rows, rotation=_rotation(len(rows)))
    chart.set_ylabel(metric_of(metric).unit)
    chart.grid(visible=True, axis="y", alpha=0.25)


def _draw_differences(
    chart: Any, comparison: Comparison, *, metric: str, colours: dict[str, Any]
) -> None:
    """Draw differences from the reference with their intervals, over the band that doesn't count."""
    scale = metric_of(metric).scale
    rows = [row for row in comparison.tables[metric] if row.difference]
    margin = comparison.margins[metric] * scale
    if margin:
        chart.axvspan(-margin, margin, color="0.9", zorder=0)
    chart.axvline(0.0, color="0.6", linewidth=0.8)
    for place, row in enumerate(rows):
        gap = row.difference
        if gap is None:
            continue
        colour = colours[row.variant]
        chart.plot([gap.low * scale, gap.high * scale], [place, place], color=colour, linewidth=2)
        chart.plot([gap.mean * scale], [place], color=colour, marker="o")
        label = {"xy": (gap.mean * scale, place), "xytext": (0, 7)}
        chart.annotate(
            row.verdict,
            **label,
            textcoords="offset points",
            ha="center",
            fontsize="small",
        )
    if not rows:
        chart.text(0.5, 0.5, "nothing comparable", ha="center", transform=chart.transAxes)
    title = f"difference from {_name(comparison.reference)}, 95 % intervals"
    chart.set_title(title, parse_math=False)
    chart.set_ylim(len(rows) - 0.4, -0.6)
    _name_variants(chart.set_yticks, rows)
    band = f"; grey: below {words.margin_text(comparison, metric)}" if margin else ""
    chart.set_xlabel(f"{metric_of(metric).unit or metric}{band}")
    chart.grid(visible=True, axis="x", alpha=0.25)


def _colours(variants: Sequence[str]) -> dict[str, Any]:
    """Return a colour for each variant by its place, so that it has the same one in all charts."""
    if len(variants) <= _FEW_COLOURS:
        return {variant: f"C{i}" for i, variant in enumerate(variants)}
    from matplotlib import colormaps

    many = colormaps["turbo"]
    return {variant: many(i / (len(variants) - 1)) for i, variant in enumerate(variants)}


def _rotation(names: int) -> int:
    """Return by how many degrees names below a chart are turned so as not to overlap."""
    return 0 if names <= 2 else 20 if names <= 4 else 90


def _name_variants(set_ticks: Any, rows: Sequence[Row], **options: Any) -> None:
    names = [_name(row.variant) for row in rows]
    set_ticks(range(len(rows)), names, fontsize="small", parse_math=False, **options)


def _name(variant: str) -> str:
    name = formats.clean(variant)
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
