"""Renders a comparison as text, Markdown and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

import click

from engine.metrics.registry import metric_of, variant_of
from jobs.comparison.result import Comparison, Ordering, Row, Spread
from tui.cli.common import print_table
from tui.reports import formats

_CLOCKS = {
    "updates": "updates",
    "items": "items",
    "epochs": "epochs",
    "wall_clock": "of training time",
}
_RIGHT = "RUNS BEST FINAL AT DIFFERENCE"
_COLUMNS = (
    "metric", "variant", "runs", "best", "best_deviation", "best_at", "final", "final_deviation",
    "difference", "low", "high", "items", "verdict",
)  # fmt: skip


def print_comparison(comparison: Comparison) -> None:
    """Print the tables, the rankings and the notes."""
    click.echo(_title(comparison))
    for metric, rows in comparison.tables.items():
        click.echo(f"\n{_heading(metric)}")
        scale = metric_of(metric).scale
        print_table(
            _headers(comparison),
            [_cells(comparison, row, scale=scale) for row in rows],
            right=_RIGHT,
        )
    if comparison.orderings:
        width = max(len(order.metric) for order in comparison.orderings)
        click.echo(
            f"\nrankings at the {comparison.when} evaluation: > significant, ≈ no significant difference"
        )
        for order in comparison.orderings:
            click.echo(f"by {order.metric:<{width}}  {_ordering(order)}")
    for note in comparison.notes:
        click.echo(f"\nnote: {formats.clean(note)}")


def markdown_text(comparison: Comparison) -> str:
    """Return the tables as Markdown."""
    return "\n".join(_markdown_lines(comparison)) + "\n"


def csv_text(comparison: Comparison) -> str:
    """Return one row per metric and variant, with values as stored: rates are fractions."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for metric, rows in comparison.tables.items():
        for row in rows:
            gap = row.difference
            interval = (gap.mean, gap.low, gap.high, gap.num_items) if gap else ("", "", "", "")
            writer.writerow(
                [
                    metric, row.variant, _num_runs(comparison, row), *_numbers(row.best),
                    "" if row.best_at is None else row.best_at, *_numbers(row.final), *interval,
                    row.verdict,
                ]
            )  # fmt: skip
    return stream.getvalue()


def _markdown_lines(comparison: Comparison) -> Iterator[str]:
    yield _title(comparison)
    headers = _headers(comparison)
    for metric, rows in comparison.tables.items():
        yield f"\n### {_heading(metric)}\n"
        yield "| " + " | ".join(headers) + " |"
        yield "|" + "|".join("--:" if name in _RIGHT.split() else "---" for name in headers) + "|"
        for row in rows:
            cells = _cells(comparison, row, scale=metric_of(metric).scale)
            yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
    if comparison.orderings:
        yield f"\nRankings at the {comparison.when} evaluation (≈: no significant difference):\n"
        yield from (f"- by {order.metric}: {_ordering(order)}" for order in comparison.orderings)
    if comparison.notes:
        yield "\nNotes:\n"
        yield from (f"- {note}" for note in comparison.notes)


def _title(comparison: Comparison) -> str:
    return (
        f"{len(comparison.runs)} runs compared up to {_place(comparison, comparison.budget)} "
        f"{_CLOCKS[comparison.by]}; differences from {formats.clean(comparison.reference)}, "
        f"with 95 % intervals, at the {comparison.when} evaluation"
    )


def _heading(metric: str) -> str:
    what = variant_of(metric)
    unit = what.metric.unit
    lower = "" if what.metric.rises else ", lower is better"
    return f"{metric}{f' in {unit}' if unit else ''}{f', {what.of}' if what.of else ''}{lower}"


def _headers(comparison: Comparison) -> list[str]:
    return ["VARIANT", "RUNS", "BEST", "AT", "FINAL", "DIFFERENCE", "INTERVAL", "VERDICT"]


def _cells(comparison: Comparison, row: Row, *, scale: float) -> list[str]:
    gap = row.difference
    return [
        formats.clean(row.variant),
        str(_num_runs(comparison, row)),
        _spread(row.best, scale),
        formats.MISSING if row.best_at is None else _place(comparison, row.best_at),
        _spread(row.final, scale),
        "" if gap is None else _signed(gap.mean * scale),
        "" if gap is None else f"{_signed(gap.low * scale)} to {_signed(gap.high * scale)}",
        row.verdict or "reference",
    ]


def _num_runs(comparison: Comparison, row: Row) -> int:
    return sum(scores.variant == row.variant for scores in comparison.runs)


def _place(comparison: Comparison, at: float) -> str:
    if comparison.by == "wall_clock":
        return formats.duration(at)
    return f"{at:.2f}" if comparison.by == "epochs" else str(round(at))


def _spread(value: Spread | None, scale: float) -> str:
    if value is None:
        return formats.MISSING
    text = _number(value.mean * scale)
    return text if value.deviation is None else f"{text} ± {_number(value.deviation * scale)}"


def _numbers(value: Spread | None) -> tuple[float | str, float | str]:
    if value is None:
        return "", ""
    return value.mean, "" if value.deviation is None else value.deviation


def _number(value: float) -> str:
    """Return three decimals; none for large values, two significant digits for tiny ones."""
    if abs(value) >= 1000:
        return f"{value:.0f}"
    return f"{value:.3f}" if abs(value) >= 0.01 or value == 0 else f"{value:.2g}"


def _signed(value: float) -> str:
    return f"{'+' if value >= 0 else ''}{_number(value)}"


def _ordering(order: Ordering) -> str:
    text = formats.clean(order.variants[0])
    for name, apart in zip(order.variants[1:], order.apart, strict=True):
        text += f" {'>' if apart else '≈'} {formats.clean(name)}"
    return text
