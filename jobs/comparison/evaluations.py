"""What runs scored, read from the store: each evaluation with how far the run had come by then.

Runs are put side by side at equal updates, items, epochs or wall-clock time: whoever went further is
judged by what it had reached there.
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

# Room for rounding where two runs end at the same place.
_NEARLY = 1 + 1e-9
_NO_LIMIT = 10**9


@dataclass(frozen=True, slots=True)
class Point:
    """The value of a metric at an update; `at` is the same place on the clock of the comparison."""

    updates: int
    at: float
    value: float


@dataclass(frozen=True, slots=True)
class RunScores:
    """One run.

    Attributes:
        variant: runs of one variant differ in nothing but their seed.
        loss: names what is minimised; val_loss of other losses is another quantity.
        points: metric -> its evaluations, in order.
        items_keys: update -> what was judged then.
    """

    run: RunRecord
    variant: str
    loss: str
    points: dict[str, list[Point]]
    items_keys: dict[int, str]

    @property
    def reach(self) -> float:
        """Where its last evaluation is."""
        return max((found[-1].at for found in self.points.values() if found), default=0.0)

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
    reader: StoreReader, runs: Iterable[RunRecord], metrics: Sequence[str], by: Clock
) -> list[RunScores]:
    """Read the evaluations of runs.

    Raises:
        ValueError: by epochs, when a run did not count them.
    """
    found = [(run, reader.config(run.id)) for run in runs]
    names = _variants(found)
    uncounted = [run.name for run, _ in found if by == "epochs" and run.updates and not run.epochs]
    if uncounted:
        raise ValueError(
            f"an earlier version trained {', '.join(uncounted)} and counted no epochs; compare by items "
            "or updates, or leave them out"
        )
    return [
        RunScores(
            run,
            names[run.id],
            json.dumps(config.get("loss"), sort_keys=True),
            _points(reader, run, metrics, by),
            {item.updates: item.items_key for item in reader.evaluations(run.id)},
        )
        for run, config in found
    ]


def item_values(
    reader: StoreReader, chosen: Sequence[tuple[RunScores, Point]], metric: str
) -> np.ndarray | None:
    """Return (S, N) values, NaN for an item without one; None when a run has none of them."""
    rows = [reader.item_results(scores.run.id, at.updates, metric) for scores, at in chosen]
    if not rows or len({len(row) for row in rows}) != 1 or not rows[0]:
        return None
    return np.array(rows, dtype=np.float64)


def _points(
    reader: StoreReader, run: RunRecord, metrics: Sequence[str], by: Clock
) -> dict[str, list[Point]]:
    seconds = {item.updates: item.train_seconds for item in reader.evaluations(run.id)}
    totals = {
        "updates": run.updates, "items": run.items, "epochs": run.epochs,
        "wall_clock": run.train_seconds,
    }  # fmt: skip
    # Updates have equally many items, at least on average; time is known exactly where items are.
    share = totals[by] / run.updates if run.updates else 0.0
    points: dict[str, list[Point]] = {}
    for name, curve in reader.curves(run.id, metrics, max_points=_NO_LIMIT).items():
        points[name] = [
            Point(
                updates,
                seconds.get(updates, share * updates) if by == "wall_clock" else share * updates,
                value,
            )
            for updates, value in zip(curve.updates, curve.last, strict=True)
            if value is not None
        ]
    return {name: found for name, found in points.items() if found}


def _variants(runs: Sequence[tuple[RunRecord, dict[str, Any]]]) -> dict[int, str]:
    """Return the variant of each run: the one of its experiment, else that of equal configs."""
    names: dict[int, str] = {}
    first: dict[str, str] = {}
    several = len({run.experiment for run, _ in runs if run.variant}) > 1
    for run, config in runs:
        if run.variant:
            names[run.id] = f"{run.experiment}/{run.variant}" if several else run.variant
            continue
        same = {name: part for name, part in config.items() if name not in ("seed", "logging")}
        key = sha256(json.dumps(same, sort_keys=True).encode()).hexdigest()
        # A run without a config to compare stands for itself.
        names[run.id] = first.setdefault(key, run.name) if same else run.name
    return names
