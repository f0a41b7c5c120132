"""Which variant is better, by how much, and whether the answer can be relied on.

Owns the comparison; `jobs.comparison.evaluations` reads, `jobs.comparison.inference` estimates,
`jobs.comparison.verdicts` decides, `jobs.comparison.seed_spread` knows what seeds did before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import combinations, pairwise

import numpy as np

from engine.metrics.items_keys import key_for
from engine.metrics.registry import compared_names, metric_of
from jobs.comparison import notes
from jobs.comparison.evaluations import (
    Clock,
    Point,
    RunScores,
    When,
    bad_items,
    best_point,
    matched_points,
    read_scores,
    sample,
)
from jobs.comparison.inference import (
    FEWEST_SEEDS,
    Difference,
    Estimate,
    Of,
    Sample,
    compared,
    num_common_items,
)
from jobs.comparison.result import Comparison, Ordering, Row, Spread
from jobs.comparison.seed_spread import Repeat, SeedSpread, repeats_of, seed_spread
from jobs.comparison.verdicts import decide, decider
from jobs.store.reader import StoreReader
from jobs.store.records import RunRecord


def compare(
    reader: StoreReader,
    runs: Sequence[RunRecord],
    *,
    by: Clock = "items",
    when: When = "best",
    metrics: Sequence[str] | None = None,
    margins: Mapping[str, float] | None = None,
    min_seeds: int = FEWEST_SEEDS,
) -> Comparison:
    """Compare runs; the variant of the first one is the reference.

    Args:
        reader: of the store.
        runs: in the order of the tables.
        by: the clock on which progress is equal.
        when: whether the best evaluations are compared, or the last ones.
        metrics: names as stored; the first one decides. By default the main metrics, and the headline of
            the recipe decides.
        margins: smallest differences that count, by stored or base name, as stored; others have their
            metric's own.
        min_seeds: seeds a side that a verdict about a recipe needs, at least 2.

    Raises:
        ValueError: when no run has been evaluated, or fewer than two seeds are asked for.
    """
    if min_seeds < FEWEST_SEEDS:
        raise ValueError(
            f"a verdict about a recipe needs at least {FEWEST_SEEDS} seeds a side, got {min_seeds}"
        )
    names = tuple(metrics or compared_names())
    scores = read_scores(reader, runs, metrics=names, by=by)
    if not any(item.points for item in scores):
        raise ValueError(_nothing_to_compare(runs, metrics or ()))
    comparer = _Comparer(reader, scores, when=when, margins=margins or {}, min_seeds=min_seeds)
    known = [name for name in names if any(item.points.get(name) for item in comparer.scores)]
    refused = {
        name: reason for name in known if (reason := notes.different_meaning(comparer.scores, name))
    }
    shown = [name for name in known if name not in refused]
    decisive = _headline(shown, comparer.scores, asked=bool(metrics))
    shown.sort(key=lambda name: name != decisive)
    tables = {name: comparer.table(name) for name in shown}
    orderings = [order for name in shown if (order := comparer.ordering(name)) is not None]
    return Comparison(
        by, comparer.budget, when=when, reference=comparer.variants[0], headline=decisive,
        min_seeds=min_seeds, runs=comparer.scores, tables=tables, orderings=orderings,
        margins={name: comparer.margin(name) for name in shown}, refused=refused,
        best_points={name: comparer.points(name, when="best") for name in shown},
        final_points={name: comparer.points(name, when="final") for name in shown},
        notes=[
            *notes.of_runs(scores, comparer.budget, asked=metrics or ()),
            *notes.of_seeds(comparer.scores),
            *comparer.grid_notes(shown),
            *comparer.bad_notes(shown),
            *notes.of_tables(tables, min_seeds=min_seeds),
            *(f"{name} is not compared: {reason}" for name, reason in refused.items()),
            *notes.of_settings(comparer.scores),
        ],
    )  # fmt: skip


def _nothing_to_compare(runs: Sequence[RunRecord], metrics: Sequence[str]) -> str:
    where = ", ".join(run.name for run in runs) or "none"
    what = f" of {', '.join(metrics)}" if metrics else ""
    return f"nothing to compare: no evaluation{what} in {where}"


def _headline(names: Sequence[str], scores: Sequence[RunScores], *, asked: bool) -> str:
    """Return the metric that decides: the first one asked for, or the headline of the recipe."""
    if asked or not names:
        return names[0] if names else ""
    wanted = {metric_of(item.run.metric).name for item in scores}
    return next((name for name in names if name in wanted), names[0])


class _Comparer:
    """Computes one comparison."""

    def __init__(
        self, reader: StoreReader, scores: Sequence[RunScores],
        *, when: When, margins: Mapping[str, float], min_seeds: int,
    ) -> None:  # fmt: skip
        self._reader = reader
        self._when: When = when
        self._margins = margins
        self._min_seeds = min_seeds
        self.scores = [item for item in scores if item.points]
        self.variants = list(dict.fromkeys(item.variant for item in self.scores))
        self.budget = min(item.reach for item in self.scores)
        self._spreads: dict[str, SeedSpread | None] = {}
        self._matched: dict[str, dict[int, list[Point]]] = {}
        self._chosen_points: dict[tuple[str, When], dict[int, Point]] = {}
        self._samples: dict[tuple[str, str], Sample | str] = {}

    def margin(self, metric: str) -> float:
        """Return the smallest difference that counts, as stored."""
        known = metric_of(metric)
        if (asked := self._margins.get(metric, self._margins.get(known.name))) is not None:
            return asked
        level = self._spread(self.variants[0], metric, when=self._when)
        return max(known.margin, known.relative_margin * abs(level.mean) if level else 0.0)

    def table(self, metric: str) -> list[Row]:
        differences = self._differences(metric)
        return [
            self._row(variant, metric, compared=differences.get(variant))
            for variant in self.variants
        ]

    def _row(
        self, variant: str, metric: str, *, compared: tuple[Estimate, Difference] | str | None
    ) -> Row:
        best, final = (self._spread(variant, metric, when=when) for when in ("best", "final"))
        chosen = self._chosen(variant, metric, when="best")
        at = float(np.mean([point.at for _, point in chosen])) if chosen else None
        seeds = self._seeds(variant, metric)
        if variant == self.variants[0] or compared is None:
            return Row(variant, seeds, best=best, best_at=at, final=final)
        if isinstance(compared, str):
            return Row(
                variant, seeds, best=best, best_at=at, final=final,
                verdict="not comparable", caveat=compared,
            )  # fmt: skip
        estimate, difference = compared
        margin = self.margin(metric)
        verdict = decide(difference, margin=margin, rises=metric_of(metric).rises)
        more = None
        if verdict == "undecided" and difference.of == "recipes":
            more = decider(estimate, difference.alpha, margin=margin, hours=self._hours(variant))
        caveat = notes.of_verdict(
            difference, self._spread_of_seeds(metric, difference), verdict=verdict
        )
        return Row(
            variant, seeds, best=best, best_at=at, final=final, difference=difference,
            verdict=verdict, caveat=caveat, decider=more,
        )  # fmt: skip

    def ordering(self, metric: str) -> Ordering | None:
        levels = {
            variant: spread.mean
            for variant in self.variants
            if (spread := self._spread(variant, metric, when=self._when))
        }
        if len(levels) < 2:
            return None
        ranked = sorted(levels, key=lambda name: levels[name], reverse=metric_of(metric).rises)
        enough = [name for name in ranked if self._seeds(name, metric) >= self._min_seeds]
        # Recipes are ordered where there are two; models only where there is nothing better.
        left_out = [name for name in ranked if name not in enough] if len(enough) > 1 else []
        ranked = [name for name in ranked if name not in left_out]
        samples = [self._sample(name, metric) for name in ranked]
        usable = [value for value in samples if isinstance(value, Sample)]
        if (
            len(usable) < len(ranked)
            or self._unpaired(ranked, metric)
            or num_common_items(usable) < 2
        ):
            apart = [False] * (len(ranked) - 1)
            return Ordering(metric, "models", variants=ranked, apart=apart, left_out=left_out)
        pairs = list(combinations(range(len(usable)), 2))
        of = self._kind(usable)
        differences = dict(zip(pairs, compared(usable, pairs, of=of), strict=True))
        shown = [differences[pair][1] for pair in pairwise(range(len(usable)))]
        apart = [item.is_shown and not item.is_within(self.margin(metric)) for item in shown]
        return Ordering(metric, of, variants=ranked, apart=apart, left_out=left_out)

    def _differences(self, metric: str) -> dict[str, tuple[Estimate, Difference] | str]:
        """Compare every variant with the reference; all intervals of a kind hold at once."""
        reference, *others = self.variants
        base = self._sample(reference, metric)
        result: dict[str, tuple[Estimate, Difference] | str] = {}
        families: dict[Of, dict[str, Sample]] = {"recipes": {}, "models": {}}
        for name in others:
            other = self._sample(name, metric)
            if isinstance(base, str) or isinstance(other, str):
                result[name] = f"{base} (reference)" if isinstance(base, str) else str(other)
            elif reason := self._unpaired([reference, name], metric):
                result[name] = reason
            else:
                families[self._kind([base, other])][name] = other
        if isinstance(base, Sample):
            for of, others_of in families.items():
                result |= _family(base, others_of, of=of)
        return result

    def _kind(self, samples: Sequence[Sample]) -> Of:
        """Return what a comparison of these is about."""
        fewest = min(len(item.seeds) for item in samples)
        return "recipes" if fewest >= self._min_seeds else "models"

    def _chosen(self, variant: str, metric: str, *, when: When) -> list[tuple[RunScores, Point]]:
        """Return the runs of a variant with the evaluation of each that counts."""
        known = self.points(metric, when=when)
        return [
            (item, known[item.run.id])
            for item in self.scores
            if item.variant == variant and item.run.id in known
        ]

    def points(self, metric: str, *, when: When) -> dict[int, Point]:
        """Return the evaluation of each run that counts, by run id."""
        if (metric, when) not in self._chosen_points:
            # Where none is finite, the last one says so: a run that diverged is bad, not absent.
            self._chosen_points[metric, when] = {
                run: some[-1] if when == "final" else best_point(some, metric) or some[-1]
                for run, some in self.matched(metric).items()
                if some
            }
        return self._chosen_points[metric, when]

    def matched(self, metric: str) -> dict[int, list[Point]]:
        """Return the evaluations of each run that have a partner in every other one, by run id."""
        if metric not in self._matched:
            self._matched[metric] = matched_points(self.scores, metric, budget=self.budget)
        return self._matched[metric]

    def _sample(self, variant: str, metric: str) -> Sample | str:
        """Return the item values of a variant, or why it has none."""
        key = (variant, metric)
        if key not in self._samples:
            if chosen := self._chosen(variant, metric, when=self._when):
                self._samples[key] = sample(self._reader, chosen, metric=metric)
            elif any(item.points.get(metric) for item in self.scores if item.variant == variant):
                self._samples[key] = "no evaluation at the same progress"
            else:
                self._samples[key] = f"not evaluated by {metric}"
        return self._samples[key]

    def _unpaired(self, variants: Sequence[str], metric: str) -> str:
        """Return why items of variants can't be paired; empty when they can."""
        keys = {
            key_for(scores.items_keys.get(point.updates), metric)
            for variant in variants
            for scores, point in self._chosen(variant, metric, when=self._when)
        }
        if None in keys:
            return "no per-item results stored"
        return "evaluated on different items" if len(keys) > 1 else ""

    def _spread(self, variant: str, metric: str, *, when: When) -> Spread | None:
        values = [point.value for _, point in self._chosen(variant, metric, when=when)]
        if not values or not np.isfinite(values).all():
            return None
        deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
        return Spread(float(np.mean(values)), deviation, tuple(values))

    def bad_notes(self, metrics: Sequence[str]) -> list[str]:
        """Say which runs have bad items in the evaluations that count."""
        lines: dict[str, None] = {}
        for metric in metrics:
            for variant in self.variants:
                for item, point in self._chosen(variant, metric, when=self._when):
                    bad = bad_items(self._reader, item.run.id, updates=point.updates, metric=metric)
                    if any(bad):
                        lines[notes.of_bad_items(item, sum(bad), count=len(bad))] = None
        return list(lines)

    def grid_notes(self, metrics: Sequence[str]) -> list[str]:
        """Say where not every evaluation counts, or they are not at the same progress.

        The first metric decides. Of another one, such as a measure of whole files, that is said which is not
        true of the first.
        """
        first = self._grid_notes(metrics[0]) if metrics else []
        others = {
            f"{metric}: {line}"
            for metric in metrics[1:]
            for line in self._grid_notes(metric)
            if line not in first
        }
        return [*first, *sorted(others)]

    def _grid_notes(self, metric: str) -> list[str]:
        matched = self.matched(metric)
        runs = [item for item in self.scores if item.run.id in matched]
        counts = {len(item.within(metric, self.budget)) for item in runs}
        named = {item.run.name: matched[item.run.id] for item in runs}
        return notes.of_grid(named, counts=counts, when=self._when)

    def _seeds(self, variant: str, metric: str) -> int:
        chosen = self._chosen(variant, metric, when=self._when)
        return len({item.run.seed for item, _ in chosen})

    def _hours(self, variant: str) -> tuple[float, float] | None:
        """GPU hours of one run of the reference, and of one of the variant."""
        first, second = (
            float(np.mean([item.run.train_seconds for item in self.scores if item.variant == name]))
            / 3600
            for name in (self.variants[0], variant)
        )
        return (first, second) if first and second else None

    def _spread_of_seeds(self, metric: str, difference: Difference) -> SeedSpread | None:
        """Return what seeds did in earlier runs, where a comparison has too few of its own."""
        if difference.of != "models":
            return None
        if metric not in self._spreads:
            self._spreads[metric] = seed_spread(self._reader, self._repeats, metric=metric)
        return self._spreads[metric]

    @cached_property
    def _repeats(self) -> list[list[Repeat]]:
        return repeats_of(self._reader, self.scores)


def _family(
    base: Sample, others: Mapping[str, Sample], *, of: Of
) -> dict[str, tuple[Estimate, Difference] | str]:
    """Compare variants with the reference, so that all intervals hold at once."""
    samples = [base, *others.values()]
    if num_common_items(samples) < 2:
        return dict.fromkeys(others, "fewer than two items have a value in all runs")
    pairs = [(0, place) for place in range(1, len(samples))]
    return dict(zip(others, compared(samples, pairs, of=of), strict=True))
