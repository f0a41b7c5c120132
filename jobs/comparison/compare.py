"""Which variant is better, by how much, and whether the difference is significant.

Owns the verdicts; `jobs.comparison.evaluations` reads, `jobs.comparison.bootstrap` computes intervals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from engine.metrics.registry import LOSS, compared_names, metric_of
from jobs.comparison.bootstrap import FEWEST_ITEMS, Difference, paired_difference
from jobs.comparison.evaluations import Clock, Point, RunScores, When, item_values, read_scores
from jobs.store.reader import StoreReader
from jobs.store.records import RunRecord


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean over the runs of a variant, and their standard deviation (n - 1), None for a single run."""

    mean: float
    deviation: float | None


@dataclass(frozen=True, slots=True)
class Row:
    """One variant by one metric.

    Attributes:
        best, final: None when the variant has no evaluation within the budget.
        best_at: mean position of the best evaluations, in units of the clock.
        difference: this variant minus the reference; None for the reference itself.
        verdict: better, worse, no significant difference, or why no comparison is possible; empty for
            the reference.
    """

    variant: str
    best: Spread | None
    best_at: float | None
    final: Spread | None
    difference: Difference | None = None
    verdict: str = ""


@dataclass(frozen=True, slots=True)
class Ordering:
    """Variants from best to worst; `apart[i]`: variants i and i + 1 differ significantly."""

    metric: str
    variants: list[str]
    apart: list[bool]


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result of a comparison.

    Attributes:
        budget: progress that every run has reached, on the clock `by`; later evaluations are ignored.
        when: the evaluation that differences and orderings refer to.
        notes: remarks on the tables.
    """

    by: Clock
    budget: float
    when: When
    reference: str
    runs: list[RunScores]
    tables: dict[str, list[Row]]
    orderings: list[Ordering]
    notes: list[str] = field(default_factory=list)


def compare(
    reader: StoreReader,
    runs: Sequence[RunRecord],
    *,
    by: Clock = "items",
    when: When = "best",
    metrics: Sequence[str] | None = None,
) -> Comparison:
    """Compare runs; the variant of the first one is the reference.

    Raises:
        ValueError: when no run has been evaluated.
    """
    names = tuple(metrics or compared_names())
    comparer = _Comparer(reader, runs, by=by, when=when, metrics=names)
    tables = {name: comparer.table(name) for name in comparer.metrics}
    return Comparison(
        by, comparer.budget, when=when, reference=comparer.variants[0], runs=comparer.scores,
        tables={name: rows for name, rows in tables.items() if any(row.best for row in rows)},
        orderings=[order for name in comparer.metrics if (order := comparer.ordering(name)) is not None],
        notes=comparer.notes(),
    )  # fmt: skip


class _Comparer:
    """Computes one comparison."""

    def __init__(
        self, reader: StoreReader, runs: Sequence[RunRecord],
        *, by: Clock, when: When, metrics: Sequence[str],
    ) -> None:  # fmt: skip
        self._reader = reader
        self._when: When = when
        all_scores = read_scores(reader, runs, metrics=metrics, by=by)
        self.scores = [scores for scores in all_scores if scores.points]
        self._empty = [scores.run for scores in all_scores if not scores.points]
        if not self.scores:
            names = ", ".join(run.name for run in runs) or "none"
            raise ValueError(
                f"nothing to compare: no evaluation of {', '.join(metrics)} in {names}"
            )
        self.variants = list(dict.fromkeys(scores.variant for scores in self.scores))
        self.budget = min(scores.reach for scores in self.scores)
        self._one_loss = len({scores.loss for scores in self.scores}) == 1
        self.metrics = [name for name in metrics if self._one_loss or not _is_loss(name)]
        self._differences: dict[tuple[str, str, str], Difference | str] = {}

    def table(self, metric: str) -> list[Row]:
        return [self._row(variant, metric) for variant in self.variants]

    def _row(self, variant: str, metric: str) -> Row:
        best, final = (self._chosen(variant, metric, when=when) for when in ("best", "final"))
        at = float(np.mean([point.at for _, point in best])) if best else None
        row = Row(variant, _spread(best), at, _spread(final))
        if variant == self.variants[0]:
            return row
        difference = self._difference(self.variants[0], variant, metric=metric)
        if isinstance(difference, str):
            return Row(variant, row.best, at, row.final, None, difference)
        verdict = "no significant difference"
        if difference.num_items < FEWEST_ITEMS:
            verdict = f"inconclusive: only {difference.num_items} items"
        elif difference.is_shown:
            verdict = "better" if (difference.mean > 0) == metric_of(metric).rises else "worse"
        return Row(variant, row.best, at, row.final, difference, verdict)

    def ordering(self, metric: str) -> Ordering | None:
        levels = {
            variant: spread.mean
            for variant in self.variants
            if (spread := _spread(self._chosen(variant, metric, when=self._when)))
        }
        if len(levels) < 2:
            return None
        ranked = sorted(levels, key=lambda name: levels[name], reverse=metric_of(metric).rises)
        pairs = [self._difference(a, b, metric=metric) for a, b in pairwise(ranked)]
        apart = [isinstance(pair, Difference) and pair.is_shown for pair in pairs]
        return Ordering(metric, ranked, apart=apart)

    def _chosen(self, variant: str, metric: str, *, when: When) -> list[tuple[RunScores, Point]]:
        return [
            (scores, point)
            for scores in self.scores
            if scores.variant == variant
            and (point := scores.point(metric, when, self.budget)) is not None
        ]

    def _difference(self, first: str, second: str, *, metric: str) -> Difference | str:
        key = (first, second, metric)
        if key not in self._differences:
            self._differences[key] = self._paired(*key)
        return self._differences[key]

    def _paired(self, first: str, second: str, metric: str) -> Difference | str:
        sides = [self._chosen(variant, metric, when=self._when) for variant in (first, second)]
        if not all(sides):
            return "not comparable: no evaluation"
        keys = {scores.items_keys.get(point.updates) for side in sides for scores, point in side}
        if None in keys:
            return "not comparable: no per-item results stored"
        if len(keys) > 1:
            return "not comparable: evaluated on different items"
        values = [item_values(self._reader, side, metric=metric) for side in sides]
        if values[0] is None or values[1] is None:
            return "not comparable: no per-item results stored"
        return paired_difference(values[0], values[1]) or "not comparable: fewer than two items"

    def notes(self) -> list[str]:
        lines = [
            f"{run.name} ({run.state}) has no evaluation and is ignored" for run in self._empty
        ]
        slowest = min(self.scores, key=lambda scores: scores.reach)
        if max(scores.reach for scores in self.scores) > self.budget * 1.001:
            lines.append(
                f"compared up to the progress of {slowest.run.name} ({slowest.run.state}); later evaluations of "
                "other runs are ignored"
            )
        if not self._one_loss:
            lines.append(f"{LOSS} is not compared: the runs minimise different losses")
        seeds = {
            name: [s.run.seed for s in self.scores if s.variant == name] for name in self.variants
        }
        lines += [
            f"{name}: runs share a seed, so their spread does not measure the effect of seeds"
            for name, used in seeds.items()
            if len(set(used)) < len(used)
        ]
        shown = {name for (*_, name), d in self._differences.items() if isinstance(d, Difference)}
        if any(metric_of(name).is_rate for name in shown):
            lines.append(
                "error rates are total errors over total reference length, so differences weight items "
                "by their length"
            )
        differences = [d for d in self._differences.values() if isinstance(d, Difference)]
        if any(1 in difference.num_runs for difference in differences):
            lines.append(
                "variants with a single run: the interval covers validation items, not random seeds"
            )
        return lines


def _is_loss(metric: str) -> bool:
    return metric_of(metric).family == "loss"


def _spread(chosen: Sequence[tuple[RunScores, Point]]) -> Spread | None:
    values = [point.value for _, point in chosen]
    if not values:
        return None
    return Spread(
        float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None
    )
