"""The scores of runs, read from the store: each evaluation with the progress of the run.

Runs are compared at equal updates, items, epochs or wall-clock time; evaluations beyond the common progress
don't count. The best evaluation of a run is chosen among those that all runs have in common: who is
evaluated more often would win otherwise.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from engine.metrics.registry import (
    NON_FINITE,
    metric_of,
    stored_name,
    variant_of,
)
from jobs.comparison.inference import Sample
from jobs.store.reader import StoreReader
from jobs.store.records import ALL_POINTS, RunRecord

Clock = Literal["updates", "items", "epochs", "wall_clock"]
When = Literal["best", "final"]

# Tolerance for rounding where two runs end at the same progress.
_NEARLY = 1 + 1e-9


@dataclass(frozen=True, slots=True)
class Point:
    """The value of a metric at an update; `at` is its position on the clock of the comparison."""

    updates: int
    at: float
    value: float


@dataclass(frozen=True, slots=True)
class RunScores:
    """The scores of one run.

    Attributes:
        variant: runs of one variant differ only in their seed.
        config: its settings; some metrics mean the same only where some settings are equal.
        points: metric -> its evaluations, in order.
        items_keys: update -> key of the evaluated items.
    """

    run: RunRecord
    variant: str
    config: Mapping[str, Any]
    points: dict[str, list[Point]]
    items_keys: dict[int, str]

    @property
    def reach(self) -> float:
        """Position of its last evaluation on the clock."""
        return max((curve[-1].at for curve in self.points.values() if curve), default=0.0)

    def within(self, metric: str, budget: float) -> list[Point]:
        """Return the evaluations up to `budget`, in order."""
        return [point for point in self.points.get(metric, []) if point.at <= budget * _NEARLY]


def best_point(points: Sequence[Point], metric: str) -> Point | None:
    """Return the best of some evaluations, the first of equal ones; None when there is none."""
    best: Point | None = None
    for point in points:
        if metric_of(metric).is_better(point.value, best.value if best else None):
            best = point
    return best


def matched_points(
    runs: Sequence[RunScores], metric: str, *, budget: float
) -> dict[int, list[Point]]:
    """Return, by run id, the evaluations that every run has at about the same progress.

    The run with the fewest evaluations sets the places; another run takes part in a place with its
    nearest evaluation, if that is nearer to this place than to any other, and by less than half of the
    distance between places. A place without an evaluation of each run is left out for all. Runs
    without any evaluation of the metric don't count.
    """
    measured = {scores.run.id: scores.within(metric, budget) for scores in runs}
    measured = {run: points for run, points in measured.items() if points}
    if not measured:
        return {}
    grid = [point.at for point in min(measured.values(), key=len)]
    chosen = {run: _nearest(points, grid) for run, points in measured.items()}
    common = [k for k in range(len(grid)) if all(k in points for points in chosen.values())]
    return {run: [points[k] for k in common] for run, points in chosen.items()}


def _nearest(points: Sequence[Point], grid: Sequence[float]) -> dict[int, Point]:
    """Return the point at each place of a grid that has one."""
    ends = [0.0, *grid]
    taken: dict[int, Point] = {}
    for point in points:
        after = bisect_left(grid, point.at)
        near = range(max(0, after - 1), min(after + 1, len(grid)))
        k = min(near, key=lambda k: abs(grid[k] - point.at))
        room = min(b - a for a, b in pairwise(ends[k : k + 3]))
        away = abs(grid[k] - point.at)
        if away <= max(room / 2, grid[k] * (_NEARLY - 1)) and (
            k not in taken or away < abs(grid[k] - taken[k].at)
        ):
            taken[k] = point
    return taken


def read_scores(
    reader: StoreReader, runs: Iterable[RunRecord], *, metrics: Sequence[str], by: Clock
) -> list[RunScores]:
    """Read the evaluations of runs.

    Raises:
        ValueError: by epochs, when a run did not count them.
    """
    configured = [(run, reader.config(run.id)) for run in runs]
    names = variants_of(configured)
    uncounted = [
        run.name for run, _ in configured if by == "epochs" and run.updates and not run.epochs
    ]
    if uncounted:
        raise ValueError(
            f"epochs unknown for {', '.join(uncounted)} (trained by an earlier version); compare by items "
            "or updates, or exclude these runs"
        )
    return [
        RunScores(
            run,
            names[run.id],
            config=config,
            points=_points(reader, run, metrics=metrics, by=by),
            items_keys={item.updates: item.items_key for item in reader.evaluations(run.id)},
        )
        for run, config in configured
    ]


def sample(
    reader: StoreReader, chosen: Sequence[tuple[RunScores, Point]], *, metric: str
) -> Sample | str:
    """Return the item values of a variant's runs, or why there are none.

    Repeats of a seed count as one run, their mean. An item whose estimate was not finite is bad, not
    absent: where the metric has no worst value to give it, nothing is compared.
    """
    if unknown := [scores.run.name for scores, at in chosen if not math.isfinite(at.value)]:
        return f"no finite value in {', '.join(unknown)}"
    rows = [reader.item_results(scores.run.id, at.updates, metric=metric) for scores, at in chosen]
    if not all(rows):
        return "no per-item results stored"
    if len({len(row) for row in rows}) > 1:
        return "evaluated on different items"
    for (scores, at), row in zip(chosen, rows, strict=True):
        bad = bad_items(reader, scores.run.id, updates=at.updates, metric=metric)
        if worst := sum(flag and value is None for flag, value in zip(bad, row, strict=False)):
            return (
                f"{worst} items of {scores.run.name} have a non-finite estimate, which has no value"
            )
    values_RN = np.array(rows, dtype=np.float64)
    seeds = [scores.run.seed for scores, _ in chosen]
    unique = tuple(dict.fromkeys(seeds))
    values_SN = [values_RN[[seed == other for other in seeds]].mean(axis=0) for seed in unique]
    return Sample(np.array(values_SN), unique)


def bad_items(reader: StoreReader, run_id: int, *, updates: int, metric: str) -> list[bool]:
    """Return which items had a non-finite estimate in an evaluation; empty where none had."""
    what = variant_of(metric)
    flag = stored_name(NON_FINITE, full=what.full, ema=what.ema)
    return [bool(value) for value in reader.item_results(run_id, updates, metric=flag)]


def _points(
    reader: StoreReader, run: RunRecord, *, metrics: Sequence[str], by: Clock
) -> dict[str, list[Point]]:
    seconds = {item.updates: item.train_seconds for item in reader.evaluations(run.id)}
    totals = {
        "updates": run.updates, "items": run.items, "epochs": run.epochs,
        "wall_clock": run.train_seconds,
    }  # fmt: skip
    # Updates have equal numbers items, at least on average; evaluations with item results know their time.
    share = totals[by] / run.updates if run.updates else 0.0
    points: dict[str, list[Point]] = {}
    for name, curve in reader.curves(run.id, metrics, max_points=ALL_POINTS).items():
        points[name] = [
            Point(
                updates,
                seconds.get(updates, share * updates) if by == "wall_clock" else share * updates,
                # Stored as nothing where it was not finite; such an evaluation is bad, not absent.
                value=math.nan if value is None else value,
            )
            for updates, value in zip(curve.updates, curve.last, strict=True)
        ]
    return {name: curve for name, curve in points.items() if curve}


def settings_key(config: Mapping[str, Any]) -> str:
    """Return a key that is equal for configs that differ in nothing but the seed and where they log."""
    same = {name: part for name, part in config.items() if name not in ("seed", "logging")}
    return sha256(json.dumps(same, sort_keys=True).encode()).hexdigest() if same else ""


def variants_of(runs: Sequence[tuple[RunRecord, dict[str, Any]]]) -> dict[int, str]:
    """Return the variant of each run: that of its experiment, or else one for all equal configs.

    Where that leaves one variant of several runs without an experiment, each is its own: a person who
    names them wants to know about these models.
    """
    names: dict[int, str] = {}
    first: dict[str, str] = {}
    several = len({run.experiment for run, _ in runs if run.variant}) > 1
    for run, config in runs:
        if run.variant:
            names[run.id] = f"{run.experiment}/{run.variant}" if several else run.variant
            continue
        key = settings_key(config)
        # A run without a config is its own variant.
        names[run.id] = first.setdefault(key, run.name) if key else run.name
    if len(set(names.values())) == 1 and not any(run.variant for run, _ in runs):
        return {run.id: run.name for run, _ in runs}
    return names
