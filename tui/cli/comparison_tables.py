"""A comparison as text, Markdown and CSV: the same tables three times."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

import click

from engine.metrics.registry import metric_of, variant_of
from jobs.comparison.compare import Comparison, Ordering, Row, Spread
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


def print_comparison(found: Comparison) -> None:
    """Print the tables, the orderings and what to know about them."""
    click.echo(_title(found))
    for metric, rows in found.tables.items():
        click.echo(f"\n{_heading(metric)}")
        scale = metric_of(metric).scale
        print_table(_headers(found), [_cells(found, row, scale) for row in rows], right=_RIGHT)
    if found.orderings:
        width = max(len(order.metric) for order in found.orderings)
        click.echo(f"\norderings at the {found.when}: > shown, ≈ no difference shown")
        for order in found.orderings:
            click.echo(f"by {order.metric:<{width}}  {_ordering(order)}")
    for note in found.notes:
        click.echo(f"\nnote: {formats.clean(note)}")


def markdown_text(found: Comparison) -> str:
    """Return the tables as Markdown."""
    return "\n".join(_markdown_lines(found)) + "\n"


def csv_text(found: Comparison) -> str:
    """Return a row for each metric and variant, with numbers as in the store: rates are fractions."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for metric, rows in found.tables.items():
        for row in rows:
            gap = row.difference
            interval = (gap.mean, gap.low, gap.high, gap.num_items) if gap else ("", "", "", "")
            writer.writerow(
                [
                    metric, row.variant, _num_runs(found, row), *_numbers(row.best),
                    "" if row.best_at is None else row.best_at, *_numbers(row.final), *interval,
                    row.verdict,
                ]
            )  # fmt: skip
    return stream.getvalue()


def _markdown_lines(found: Comparison) -> Iterator[str]:
    yield _title(found)
    headers = _headers(found)
    for metric, rows in found.tables.items():
        yield f"\n### {_heading(metric)}\n"
        yield "| " + " | ".join(headers) + " |"
        yield "|" + "|".join("--:" if name in _RIGHT.split() else "---" for name in headers) + "|"
        for row in rows:
            cells = _cells(found, row, metric_of(metric).scale)
            yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
    if found.orderings:
        yield f"\nOrderings at the {found.when} (≈: no difference shown):\n"
        yield from (f"- by {order.metric}: {_ordering(order)}" for order in found.orderings)
    if found.notes:
        yield "\nNotes:\n"
        yield from (f"- {note}" for note in found.notes)


def _title(found: Comparison) -> str:
    return (
        f"{len(found.runs)} runs, counted up to {_place(found, found.budget)} "
        f"{_CLOCKS[found.by]}; differences from {formats.clean(found.reference)}, "
        f"with 95 % intervals, at the {found.when}"
    )


def _heading(metric: str) -> str:
    what = variant_of(metric)
    unit = what.metric.unit
    lower = "" if what.metric.rises else ", lower is better"
    return f"{metric}{f' in {unit}' if unit else ''}{f', {what.of}' if what.of else ''}{lower}"


def _headers(found: Comparison) -> list[str]:
    return ["VARIANT", "RUNS", "BEST", "AT", "FINAL", "DIFFERENCE", "INTERVAL", "VERDICT"]


def _cells(found: Comparison, row: Row, scale: float) -> list[str]:
    gap = row.difference
    return [
        formats.clean(row.variant),
        str(_num_runs(found, row)),
        _spread(row.best, scale),
        formats.MISSING if row.best_at is None else _place(found, row.best_at),
        _spread(row.final, scale),
        "" if gap is None else _signed(gap.mean * scale),
        "" if gap is None else f"{_signed(gap.low * scale)} to {_signed(gap.high * scale)}",
        row.verdict or "reference",
    ]


def _num_runs(found: Comparison, row: Row) -> int:
    return sum(scores.variant == row.variant for scores in found.runs)


def _place(found: Comparison, at: float) -> str:
    if found.by == "wall_clock":
        return formats.duration(at)
    return f"{at:.2f}" if found.by == "epochs" else str(round(at))


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
    """Return three decimals, none of what is large, and two digits of what is tiny."""
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
