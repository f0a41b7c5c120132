"""Which variant is better, by how much, and whether the difference is more than chance.

Owns the judgement; `jobs.comparison.evaluations` reads, `jobs.comparison.bootstrap` computes intervals.
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
    """Mean over the runs of a variant; `deviation` between them (n - 1), None for a single run."""

    mean: float
    deviation: float | None


@dataclass(frozen=True, slots=True)
class Row:
    """One variant by one metric.

    Attributes:
        best, final: None when the variant has no evaluation within the budget.
        best_at: where the bests are, in units of the clock, mean over the runs.
        difference: this variant minus the reference; None for the reference itself.
        verdict: better, worse, no difference shown, or why that can't be told; empty for the
            reference.
    """

    variant: str
    best: Spread | None
    best_at: float | None
    final: Spread | None
    difference: Difference | None = None
    verdict: str = ""


@dataclass(frozen=True, slots=True)
class Ordering:
    """Variants from best to worst; `apart[i]` tells whether number i and its next differ."""

    metric: str
    variants: list[str]
    apart: list[bool]


@dataclass(frozen=True, slots=True)
class Comparison:
    """The whole answer.

    Attributes:
        budget: how far every run has come, on the clock `by`; what came later is not counted.
        when: which evaluation the differences and orderings are about.
        notes: what a reader of the tables must know.
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
    judge = _Judge(reader, runs, by=by, when=when, metrics=names)
    tables = {name: judge.table(name) for name in judge.metrics}
    return Comparison(
        by, judge.budget, when, judge.variants[0], judge.scores,
        {name: rows for name, rows in tables.items() if any(row.best for row in rows)},
        [order for name in judge.metrics if (order := judge.ordering(name)) is not None],
        judge.notes(),
    )  # fmt: skip


class _Judge:
    """One comparison in the making."""

    def __init__(
        self, reader: StoreReader, runs: Sequence[RunRecord],
        *, by: Clock, when: When, metrics: Sequence[str],
    ) -> None:  # fmt: skip
        self._reader = reader
        self._when: When = when
        found = read_scores(reader, runs, metrics, by)
        self.scores = [scores for scores in found if scores.points]
        self._empty = [scores.run for scores in found if not scores.points]
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
        best, final = (self._chosen(variant, metric, when) for when in ("best", "final"))
        at = float(np.mean([point.at for _, point in best])) if best else None
        row = Row(variant, _spread(best), at, _spread(final))
        if variant == self.variants[0]:
            return row
        found = self._difference(self.variants[0], variant, metric)
        if isinstance(found, str):
            return Row(variant, row.best, at, row.final, None, found)
        verdict = "no difference shown"
        if found.num_items < FEWEST_ITEMS:
            verdict = f"{found.num_items} items are too few to tell"
        elif found.is_shown:
            verdict = "better" if (found.mean > 0) == metric_of(metric).rises else "worse"
        return Row(variant, row.best, at, row.final, found, verdict)

    def ordering(self, metric: str) -> Ordering | None:
        levels = {
            variant: spread.mean
            for variant in self.variants
            if (spread := _spread(self._chosen(variant, metric, self._when)))
        }
        if len(levels) < 2:
            return None
        ranked = sorted(levels, key=lambda name: levels[name], reverse=metric_of(metric).rises)
        pairs = [self._difference(a, b, metric) for a, b in pairwise(ranked)]
        apart = [isinstance(found, Difference) and found.is_shown for found in pairs]
        return Ordering(metric, ranked, apart)

    def _chosen(self, variant: str, metric: str, when: When) -> list[tuple[RunScores, Point]]:
        return [
            (scores, point)
            for scores in self.scores
            if scores.variant == variant
            and (point := scores.point(metric, when, self.budget)) is not None
        ]

    def _difference(self, first: str, second: str, metric: str) -> Difference | str:
        key = (first, second, metric)
        if key not in self._differences:
            self._differences[key] = self._paired(*key)
        return self._differences[key]

    def _paired(self, first: str, second: str, metric: str) -> Difference | str:
        sides = [self._chosen(variant, metric, self._when) for variant in (first, second)]
        if not all(sides):
            return "no evaluation"
        keys = {scores.items_keys.get(point.updates) for side in sides for scores, point in side}
        if None in keys:
            return "not paired: no values of single items"
        if len(keys) > 1:
            return "not paired: judged on different items"
        values = [item_values(self._reader, side, metric) for side in sides]
        if values[0] is None or values[1] is None:
            return "not paired: no values of single items"
        return paired_difference(values[0], values[1]) or "not paired: fewer than two items"

    def notes(self) -> list[str]:
        lines = [f"{run.name} ({run.state}) has no evaluation: left out" for run in self._empty]
        slowest = min(self.scores, key=lambda scores: scores.reach)
        if max(scores.reach for scores in self.scores) > self.budget * 1.001:
            lines.append(
                f"counted up to where {slowest.run.name} ({slowest.run.state}) has come; what others "
                "reached later is left out"
            )
        if not self._one_loss:
            lines.append(f"{LOSS} is left out: the runs minimise different losses")
        seeds = {
            name: [s.run.seed for s in self.scores if s.variant == name] for name in self.variants
        }
        lines += [
            f"{name}: runs with equal seeds, so their spread says little"
            for name, found in seeds.items()
            if len(set(found)) < len(found)
        ]
        shown = {name for (*_, name), d in self._differences.items() if isinstance(d, Difference)}
        if any(metric_of(name).is_rate for name in shown):
            lines.append(
                "error rates are errors over the length of all references, so in the differences items "
                "weigh by their length"
            )
        found = [d for d in self._differences.values() if isinstance(d, Difference)]
        if any(1 in difference.num_runs for difference in found):
            lines.append(
                "where a variant has one run, its interval knows of items alone: another seed may differ more"
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
