"""A comparison as text: headings, rows, what limits each verdict and what would decide it.

All outputs take their words from here. Free of scipy: `jobs.comparison` is loaded by whoever compares.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import TYPE_CHECKING, Literal

from engine.config.errors import counted
from engine.metrics.registry import metric_of, variant_of
from jobs.store.records import RunRecord
from tui.reports import formats

if TYPE_CHECKING:
    from jobs.comparison.evaluations import Point, RunScores
    from jobs.comparison.result import Comparison, Ordering, Row, Spread
    from jobs.comparison.verdicts import Decider

Role = Literal["title", "heading", "header", "row", "remark", "note"]

EXPLORATORY = (
    "Exploratory: differences below are hints to test with new runs. Remarks above hold here, too."
)
RIGHT = ("SEEDS", "BEST", "FINAL", "AT", "DIFFERENCE", "INTERVAL")
_UNITS = {
    "updates": "updates",
    "items": "items",
    "epochs": "epochs",
    "wall_clock": "of training time",
}
_DECIDED = ("better", "worse", "models differ")


@dataclass(frozen=True, slots=True)
class Line:
    """A line of text and what it is."""

    text: str
    role: Role


def of_experiment(runs: Sequence[RunRecord], name: str) -> tuple[list[RunRecord], list[RunRecord]]:
    """Return the runs of an experiment that are compared, oldest first, and the failed ones."""
    mine = sorted((run for run in runs if run.experiment == name), key=lambda run: run.id)
    failed = [run for run in mine if run.state == "failed"]
    return [run for run in mine if run.state != "failed"], failed


def lines(comparison: Comparison, *, width: int) -> list[Line]:
    """Return a comparison line by line, for a screen of `width` columns."""
    found = _wrapped(title(comparison), width, role="title")
    said: set[str] = set()
    for metric in comparison.tables:
        found.append(Line("", "row"))
        if metric == first_exploratory(comparison):
            found += [*_wrapped(EXPLORATORY, width, role="title"), Line("", "row")]
        found += _wrapped(heading(comparison, metric), width, role="heading")
        found += _table(comparison, metric, width=width)
        # A remark that stands above holds here, too.
        for text in (text for text in remarks(comparison, metric) if text not in said):
            said.add(text)
            found += _wrapped(text, width, role="remark", indent="    ", first="  ")
    for note in comparison.notes:
        found.append(Line("", "row"))
        found += _wrapped(f"note: {formats.clean(note)}", width, role="note", indent="  ", first="")
    return found


def title(comparison: Comparison) -> str:
    """Return what is compared, and where."""
    place = "the best evaluation" if comparison.when == "best" else "the last evaluation"
    several = (
        row.best and row.best.deviation for rows in comparison.tables.values() for row in rows
    )
    spread = "; ± is the standard deviation of runs" if any(x is not None for x in several) else ""
    return (
        f"{counted(len(comparison.runs), 'run')} compared up to {_place(comparison, comparison.budget)} "
        f"{_UNITS[comparison.by]}, at {place} of each. Differences are relative to "
        f"{formats.clean(comparison.reference)}, with 95 % intervals{spread}."
    )


def first_exploratory(comparison: Comparison) -> str | None:
    """Return the first metric that doesn't decide; None when there is none."""
    return next((name for name in comparison.tables if name != comparison.headline), None)


def heading(comparison: Comparison, metric: str) -> str:
    """Return a metric, what it was measured on, and the smallest difference that counts."""
    what = variant_of(metric)
    items = {row.difference.num_items for row in comparison.tables[metric] if row.difference}
    about = [
        what.metric.unit, what.of, f"{'higher' if what.metric.rises else 'lower'} is better",
        f"{min(items)} validation items" if items else "",
    ]  # fmt: skip
    decides = " decides" if metric == comparison.headline and len(comparison.tables) > 1 else ""
    counts = ""
    if items and comparison.margins[metric]:
        counts = f"; differences below {margin_text(comparison, metric)} don't count"
    return f"{metric}{decides} ({', '.join(part for part in about if part)}){counts}"


def margin_text(comparison: Comparison, metric: str) -> str:
    """Return the smallest difference that counts, with its unit."""
    known = metric_of(metric)
    size = comparison.margins[metric] * known.scale
    # A share of the reference's value has any number of digits.
    text = f"{size:.6g}"
    text = f"{text if len(text) < 6 else f'{size:.2g}'} {known.unit}".rstrip()
    # Of a rate of 5 %, not a share of it.
    return f"{text} absolute" if known.is_rate else text


def headers(comparison: Comparison) -> list[str]:
    """Return the titles of all columns; the evaluation that is compared comes first."""
    places = ["BEST", "AT", "FINAL"] if comparison.when == "best" else ["FINAL", "BEST", "AT"]
    return ["VARIANT", "SEEDS", *places, "DIFFERENCE", "INTERVAL", "VERDICT"]


def rows(comparison: Comparison, metric: str) -> list[list[str]]:
    """Return the cells of a table, in the order of `headers`."""
    scale, digits = metric_of(metric).scale, _digits(comparison, metric)
    return [
        _cells(comparison, row, scale=scale, digits=digits) for row in comparison.tables[metric]
    ]


def remarks(comparison: Comparison, metric: str) -> list[str]:
    """Return what stands below a table: what limits verdicts, what would decide, the order."""
    reasons: dict[str, list[str]] = {}
    for row in comparison.tables[metric]:
        for text in limits(comparison, metric, row=row):
            reasons.setdefault(text, []).append(formats.clean(row.variant))
    found = [f"{', '.join(names)}: {text}" for text, names in reasons.items()]
    orders = [item for item in comparison.orderings if item.metric == metric]
    # Of two variants, the verdict says it; of variants without a comparison, nobody can.
    if any(row.verdict == "not comparable" for row in comparison.tables[metric]):
        return found
    return found + [_ordering(item) for item in orders if len(item.variants) > 2]


def limits(comparison: Comparison, metric: str, *, row: Row) -> list[str]:
    """Return what limits the verdict of a row, and what would decide it."""
    found = [formats.clean(row.caveat)] if row.caveat else []
    gap = row.difference
    if gap is None:
        return found
    margin = comparison.margins[metric]
    if row.verdict in _DECIDED and min(abs(gap.low), abs(gap.high)) < margin:
        found.append(f"the true difference may be below {margin_text(comparison, metric)}")
    if row.verdict == "undecided" and gap.of == "recipes" and not row.caveat:
        found.append(decider_text(row.decider))
    return found


def decider_text(decider: Decider | None) -> str:
    """Return what would decide a comparison, and what that costs."""
    if decider is None:
        return "too close to call: no affordable number of seeds or items would decide it"
    if decider.seeds is None:
        return f"about {decider.items} validation items would probably decide it; more seeds alone don't"
    cost = counted(decider.more_runs or 0, "more run")
    if decider.gpu_hours is not None:
        cost += f", {_gpu_time(decider.gpu_hours)}"
    return f"about {decider.seeds} seeds a side would probably decide it: {cost}"


def values_of_runs(
    comparison: Comparison, metric: str, *, row: Row
) -> list[tuple[RunScores, float | None, float | None]]:
    """Return the runs of a row with the value of each at its best evaluation and at its last."""
    best = comparison.best_points.get(metric, {})
    final = comparison.final_points.get(metric, {})

    def value(points: Mapping[int, Point], run: int) -> float | None:
        return points[run].value if run in points else None

    return [
        (scores, value(best, scores.run.id), value(final, scores.run.id))
        for scores in comparison.runs
        if scores.variant == row.variant
    ]


def _table(comparison: Comparison, metric: str, *, width: int) -> Iterator[Line]:
    """Yield the widest table that fits; names stand on lines of their own where none does."""
    titles, cells = headers(comparison), rows(comparison, metric)

    def table(kept: Sequence[int]) -> list[str]:
        columns = [[row[k] for k in kept] for row in (titles, *cells)]
        return formats.aligned(columns[0], columns[1:], right=RIGHT)

    for dropped in ((), (4,), (4, 3), (4, 3, 5)):
        head, *texts = table([k for k in range(len(titles)) if k not in dropped])
        if max(map(formats.cells, (head, *texts))) <= width:
            yield Line(head, "header")
            yield from (Line(text, "row") for text in texts)
            return
    head, *texts = table([1, 2, 6, 7])
    yield Line(f"  {head}", "header")
    for row, text in zip(cells, texts, strict=True):
        yield from _wrapped(row[0], width, role="row")
        yield Line(f"  {text}", "row")


def _wrapped(
    text: str, width: int, *, role: Role, indent: str = "", first: str | None = None
) -> list[Line]:
    start = indent if first is None else first
    found = wrap(
        text, max(20, width), initial_indent=start, subsequent_indent=indent, break_on_hyphens=False
    )
    return [Line(part, role) for part in found]


def _cells(comparison: Comparison, row: Row, *, scale: float, digits: int | None) -> list[str]:
    gap = row.difference
    best = [
        _spread(row.best, scale, digits=digits),
        formats.MISSING if row.best_at is None else _place(comparison, row.best_at),
    ]
    final = _spread(row.final, scale, digits=digits)
    return [
        formats.clean(row.variant),
        str(row.seeds),
        *([*best, final] if comparison.when == "best" else [final, *best]),
        "" if gap is None else _signed(gap.mean * scale, digits),
        ""
        if gap is None
        else f"{_signed(gap.low * scale, digits)} to {_signed(gap.high * scale, digits)}",
        row.verdict or "reference",
    ]


def _place(comparison: Comparison, at: float) -> str:
    if comparison.by == "wall_clock":
        return formats.duration(at)
    return f"{at:.2f}" if comparison.by == "epochs" else str(round(at))


def _digits(comparison: Comparison, metric: str) -> int | None:
    """Return decimals that show the margin with two digits, and no decided interval as ending in 0.

    None without a margin: each number then has its own.
    """
    scale = metric_of(metric).scale
    margin = comparison.margins[metric] * scale
    if not margin:
        return None
    digits = min(6, max(0, math.ceil(-math.log10(margin) - 0.01) + 1))
    ends = [
        abs(end) * scale
        for row in comparison.tables[metric]
        if row.difference and row.verdict in _DECIDED
        for end in (row.difference.low, row.difference.high)
    ]
    return next(
        (n for n in (digits, digits + 1) if min(ends, default=1.0) >= 0.5 / 10**n), digits + 2
    )


def _number(value: float, digits: int | None) -> str:
    if abs(value) >= 1000:
        return f"{value:.0f}"
    if digits is not None:
        return f"{value:.{digits}f}"
    return f"{value:.3f}" if abs(value) >= 0.01 or value == 0 else f"{value:.2g}"


def _signed(value: float, digits: int | None) -> str:
    text = _number(value, digits)
    if float(text) == 0:
        return text.removeprefix("-")
    return text if text.startswith("-") else f"+{text}"


def _spread(value: Spread | None, scale: float, *, digits: int | None) -> str:
    if value is None:
        return formats.MISSING
    text = _number(value.mean * scale, digits)
    if value.deviation is None:
        return text
    return f"{text} ± {_number(value.deviation * scale, digits)}"


def _ordering(order: Ordering) -> str:
    text = formats.clean(order.variants[0])
    for name, apart in zip(order.variants[1:], order.apart, strict=True):
        text += f" {'>' if apart else '≈'} {formats.clean(name)}"
    of = "" if order.of == "recipes" else " of these trained models"
    few = ", ".join(formats.clean(name) for name in order.left_out)
    left_out = f"; left out for too few seeds: {few}" if few else ""
    return f"order{of}: {text}  (neighbours: > differ, ≈ not shown to differ){left_out}"


def _gpu_time(hours: float) -> str:
    if hours < 1:
        return counted(max(1, round(hours * 60)), "GPU minute")
    return f"{hours:.0f} GPU hours" if hours >= 9.95 else f"{hours:.1f} GPU hours"
