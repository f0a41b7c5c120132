"""The scores of runs, read from the store: each evaluation with the progress of the run.

Runs are compared at equal updates, items, epochs or wall-clock time; evaluations beyond the common progress
don't count.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Literal

import numpy as np

from engine.metrics.registry import metric_of
from jobs.store.reader import StoreReader
from jobs.store.records import RunRecord

Clock = Literal["updates", "items", "epochs", "wall_clock"]
When = Literal["best", "final"]

# Tolerance for rounding where two runs end at the same progress.
_NEARLY = 1 + 1e-9
_NO_LIMIT = 10**9


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
        loss: the training loss; val_loss is comparable only between runs with the same loss.
        points: metric -> its evaluations, in order.
        items_keys: update -> key of the evaluated items.
    """

    run: RunRecord
    variant: str
    loss: str
    points: dict[str, list[Point]]
    items_keys: dict[int, str]

    @property
    def reach(self) -> float:
        """Position of its last evaluation on the clock."""
        return max((curve[-1].at for curve in self.points.values() if curve), default=0.0)

    def point(self, metric: str, when: When, budget: float) -> Point | None:
        """Return the best or the last evaluation up to `budget`; None when there is none."""
        chosen: Point | None = None
        for point in self.points.get(metric, []):
            if point.at <= budget * _NEARLY and (
                when == "final"
                or metric_of(metric).is_better(point.value, chosen.value if chosen else None)
            ):
                chosen = point
        return chosen


def read_scores(
    reader: StoreReader, runs: Iterable[RunRecord], *, metrics: Sequence[str], by: Clock
) -> list[RunScores]:
    """Read the evaluations of runs.

    Raises:
        ValueError: by epochs, when a run did not count them.
    """
    configured = [(run, reader.config(run.id)) for run in runs]
    names = _variants(configured)
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
            loss=json.dumps(config.get("loss"), sort_keys=True),
            points=_points(reader, run, metrics=metrics, by=by),
            items_keys={item.updates: item.items_key for item in reader.evaluations(run.id)},
        )
        for run, config in configured
    ]


def item_values(
    reader: StoreReader, chosen: Sequence[tuple[RunScores, Point]], *, metric: str
) -> np.ndarray | None:
    """Return (S, N) values, NaN for an item without a value; None when a run has no item values."""
    rows = [reader.item_results(scores.run.id, at.updates, metric=metric) for scores, at in chosen]
    if not rows or len({len(row) for row in rows}) != 1 or not rows[0]:
        return None
    return np.array(rows, dtype=np.float64)


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
    for name, curve in reader.curves(run.id, metrics, max_points=_NO_LIMIT).items():
        points[name] = [
            Point(
                updates,
                seconds.get(updates, share * updates) if by == "wall_clock" else share * updates,
                value=value,
            )
            for updates, value in zip(curve.updates, curve.last, strict=True)
            if value is not None
        ]
    return {name: curve for name, curve in points.items() if curve}


def _variants(runs: Sequence[tuple[RunRecord, dict[str, Any]]]) -> dict[int, str]:
    """Return the variant of each run: that of its experiment, or else one for all equal configs."""
    names: dict[int, str] = {}
    first: dict[str, str] = {}
    several = len({run.experiment for run, _ in runs if run.variant}) > 1
    for run, config in runs:
        if run.variant:
            names[run.id] = f"{run.experiment}/{run.variant}" if several else run.variant
            continue
        same = {name: part for name, part in config.items() if name not in ("seed", "logging")}
        key = sha256(json.dumps(same, sort_keys=True).encode()).hexdigest()
        # A run without a config is its own variant.
        names[run.id] = first.setdefault(key, run.name) if same else run.name
    return names
