"""The result of a comparison, as values: what every output of it writes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from jobs.comparison.evaluations import Clock, Point, RunScores, When
from jobs.comparison.inference import Difference
from jobs.comparison.verdicts import Decider, Verdict


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean over the runs of a variant, and their standard deviation (n - 1), None for a single run.

    Attributes:
        values: of each run, in the order of the runs.
    """

    mean: float
    deviation: float | None
    values: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """One variant by one metric.

    Attributes:
        seeds: number of different seeds among its runs.
        best, final: None when the variant has no evaluation within the budget.
        best_at: mean position of the best evaluations, in units of the clock.
        difference: this variant minus the reference; None for the reference itself.
        verdict: empty for the reference.
        caveat: what limits the verdict, or why there is none; in words, empty where nothing does.
        decider: what would decide an undecided comparison of recipes.
    """

    variant: str
    seeds: int
    best: Spread | None
    best_at: float | None
    final: Spread | None
    difference: Difference | None = None
    verdict: Verdict = ""
    caveat: str = ""
    decider: Decider | None = None


@dataclass(frozen=True, slots=True)
class Ordering:
    """Variants from best to worst; `apart[i]`: variants i and i + 1 differ, all pairs taken together.

    Attributes:
        of: what is ordered; models where fewer than two variants have enough seeds.
        left_out: variants with too few seeds, where recipes are ordered.
    """

    metric: str
    of: Literal["recipes", "models"]
    variants: list[str]
    apart: list[bool]
    left_out: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result of a comparison.

    Attributes:
        budget: progress that every run has reached, on the clock `by`; later evaluations are ignored.
        when: the evaluation that differences and orderings refer to.
        headline: the metric that decides; the other tables are exploratory.
        min_seeds: seeds a side that a verdict about a recipe needs.
        margins: smallest difference that counts, by metric, as stored.
        refused: metric -> why its values can't be compared.
        best_points: metric -> run id -> the best of the evaluations that count, all of them those that
            every run has at the same progress.
        final_points: metric -> run id -> the last of them.
        notes: caveats of the whole comparison.
    """

    by: Clock
    budget: float
    when: When
    reference: str
    headline: str
    min_seeds: int
    runs: list[RunScores]
    tables: dict[str, list[Row]]
    orderings: list[Ordering]
    margins: dict[str, float]
    refused: dict[str, str]
    best_points: dict[str, dict[int, Point]]
    final_points: dict[str, dict[int, Point]]
    notes: list[str] = field(default_factory=list)
