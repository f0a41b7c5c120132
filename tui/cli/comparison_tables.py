"""Writes a comparison as text, Markdown, CSV and JSON; the words are those of `tui.reports.comparison`."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from tui.cli.common import plain
from tui.reports import comparison as words
from tui.reports import formats

if TYPE_CHECKING:
    from jobs.comparison.result import Comparison, Row, Spread

# New columns come last: scripts may count.
_COLUMNS = (
    "metric", "variant", "runs", "best", "best_deviation", "best_at", "final", "final_deviation",
    "difference", "low", "high", "items", "verdict", "role", "of", "seeds", "margin", "alpha", "paired",
    "decider_seeds", "decider_runs", "decider_items", "decider_gpu_hours", "caveat", "notes",
)  # fmt: skip


def print_comparison(comparison: Comparison) -> None:
    """Print the table that decides, the exploratory ones and the notes."""
    for line in words.lines(comparison, width=shutil.get_terminal_size().columns):
        click.echo(line.text)


def markdown_text(comparison: Comparison) -> str:
    """Return the tables as Markdown."""
    return "\n".join(_markdown_lines(comparison)) + "\n"


def csv_text(comparison: Comparison) -> str:
    """Return one row per metric and variant, with values as stored: rates are fractions.

    Metrics that can't be compared have rows without values, with the reason as their caveat.
    """
    stream = io.StringIO()
    writer = csv.DictWriter(stream, _COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    notes = " | ".join(map(formats.clean, comparison.notes))
    for metric, rows in comparison.tables.items():
        for row in rows:
            writer.writerow(_csv_row(comparison, metric, row=row) | {"notes": notes})
    for metric, reason in comparison.refused.items():
        for variant in dict.fromkeys(scores.variant for scores in comparison.runs):
            writer.writerow(
                {
                    "metric": metric, "variant": formats.clean(variant),
                    "runs": _num_runs(comparison, variant), "verdict": "not comparable",
                    "role": "refused", "caveat": formats.clean(reason), "notes": notes,
                }
            )  # fmt: skip
    return stream.getvalue()


def json_value(comparison: Comparison) -> dict[str, Any]:
    """Return a comparison in JSON types: everything, and the values of each run beside its row.

    Configs are left out: `sepdash show RUN --json` has them.
    """
    found: dict[str, Any] = plain(comparison)
    for run in found["runs"]:
        del run["config"]
    for metric, rows in comparison.tables.items():
        for row, value in zip(rows, found["tables"][metric], strict=True):
            value["limits"] = words.limits(comparison, metric, row=row)
            value["runs"] = [
                {"run": scores.run.name, "seed": scores.run.seed, "best": plain(best), "final": plain(final)}
                for scores, best, final in words.values_of_runs(comparison, metric, row=row)
            ]  # fmt: skip
    return found


def _csv_row(comparison: Comparison, metric: str, *, row: Row) -> dict[str, Any]:
    best, final, gap, more = row.best, row.final, row.difference, row.decider
    found: dict[str, Any] = {
        "metric": metric, "variant": formats.clean(row.variant),
        "runs": _num_runs(comparison, row.variant), **_numbers("best", best), "best_at": row.best_at,
        **_numbers("final", final), "verdict": row.verdict,
        "role": "headline" if metric == comparison.headline else "exploratory", "seeds": row.seeds,
        "margin": comparison.margins[metric],
        "caveat": "; ".join(words.limits(comparison, metric, row=row)),
    }  # fmt: skip
    if gap is not None:
        found |= {
            "difference": gap.mean, "low": gap.low, "high": gap.high, "items": gap.num_items,
            "of": gap.of, "alpha": gap.alpha, "paired": "yes" if gap.paired else "no",
        }  # fmt: skip
    if more is not None:
        found |= {
            "decider_seeds": more.seeds, "decider_runs": more.more_runs,
            "decider_items": more.items, "decider_gpu_hours": more.gpu_hours,
        }  # fmt: skip
    return {key: "" if value is None else value for key, value in found.items()}


def _markdown_lines(comparison: Comparison) -> Iterator[str]:
    yield words.title(comparison)
    titles = words.headers(comparison)
    for metric in comparison.tables:
        if metric == words.first_exploratory(comparison):
            yield f"\n{words.EXPLORATORY}"
        yield f"\n### {words.heading(comparison, metric)}\n"
        yield f"| {' | '.join(titles)} |"
        yield "|" + "|".join("--:" if name in words.RIGHT else "---" for name in titles) + "|"
        for cells in words.rows(comparison, metric):
            yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
        if remarks := words.remarks(comparison, metric):
            yield ""
            yield from (f"- {text}" for text in remarks)
    if comparison.notes:
        yield "\nNotes:\n"
        yield from (f"- {formats.clean(note)}" for note in comparison.notes)


def _num_runs(comparison: Comparison, variant: str) -> int:
    return sum(scores.variant == variant for scores in comparison.runs)


def _numbers(name: str, value: Spread | None) -> dict[str, float | None]:
    if value is None:
        return {}
    return {name: value.mean, f"{name}_deviation": value.deviation}
