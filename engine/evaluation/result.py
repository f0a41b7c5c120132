"""The result of an evaluation: means, the values of the items behind them, and audio to listen to.

Owns what a bad item counts: one whose estimate, or value, is not finite. Letters: N items.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from engine.metrics.registry import NON_FINITE, metric_of, variant_of


@dataclass(frozen=True, slots=True)
class Clip:
    """A validation item to listen to: kind -> (C, T) float32; input, target and estimate.

    Several sources differ by a suffix: target.vocals, estimate.vocals. `texts` says, by kind, what is to be said
    (input) and what a judge heard (estimate), where that is known.
    """

    item: int
    rate_hz: int
    signals: dict[str, np.ndarray]
    texts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Means over the validation items, with the count of items left out (silent references).

    Attributes:
        metrics: means by name.
        num_items: N, how many items were evaluated.
        num_excluded: how many of them have no SI-SDR.
        items: name -> (N,) float64, what the means were taken of; NaN for an item left out. Where items
            are bad, `non_finite` is 1 for each of them and 0 for the others.
        items_key: names the items: evaluations with equal keys can be compared item by item.
        clips: the first items as audio, as many as `validation.clips` asks for.
    """

    metrics: dict[str, float]
    num_items: int
    num_excluded: int
    items: dict[str, np.ndarray] = field(default_factory=dict)
    items_key: str = ""
    clips: tuple[Clip, ...] = ()


def evaluation_of(
    items: Mapping[str, np.ndarray],
    *,
    items_key: str = "",
    bad: np.ndarray | None = None,
    absent: Mapping[str, np.ndarray] | None = None,
) -> Evaluation:
    """Return the means of the values of items, with bad items counted and never left out.

    A bad item has the worst value of each metric (`Metric.worst`), infinity where that is unbounded: a
    model that fails on some items must look worse than one that does not, and can't be the best.

    Args:
        items: name -> (N,) values.
        items_key: as in `Evaluation`.
        bad: (N,) bool, the items whose estimate is not finite; all their values count as worst. An item
            whose value is not finite is bad, too, by that metric alone.
        absent: name -> (N,) bool, the items that have no such value, whatever the model puts out, as with
            a silent reference. Metrics of the input need no entry.
    """
    absent = absent or {}
    count = len(next(iter(items.values())))
    none_N = np.zeros(count, dtype=bool)
    bad_N = none_N if bad is None else bad.astype(bool)
    all_bad_N, all_absent_N = bad_N, none_N
    values: dict[str, np.ndarray] = {}
    metrics: dict[str, float] = {}
    for name, value_N in items.items():
        metric = metric_of(name)
        value_N = np.asarray(value_N, dtype=np.float64)
        absent_N = absent.get(name, none_N)
        if metric.of_input:
            absent_N = absent_N | ~np.isfinite(value_N)
            wrong_N = none_N
        else:
            wrong_N = (bad_N | ~np.isfinite(value_N)) & ~absent_N
        all_bad_N, all_absent_N = all_bad_N | wrong_N, all_absent_N | absent_N
        value_N = np.where(wrong_N, metric.of_bad_item, value_N)
        values[name] = np.where(absent_N, np.nan, value_N)
        kept = value_N[~absent_N]
        metrics[name] = float(kept.mean()) if len(kept) else float("nan")
    if all_bad_N.any():
        values[NON_FINITE] = all_bad_N.astype(np.float64)
    return Evaluation(metrics, count, int(all_absent_N.sum()), items=values, items_key=items_key)


def bad_items_notice(evaluation: Evaluation) -> str:
    """Say how many items are bad, by which weights, and what that did to the means; empty where none is."""
    counts = {
        variant_of(name): int((flag_N > 0).sum())
        for name, flag_N in evaluation.items.items()
        if metric_of(name).name == NON_FINITE
    }
    if not counts:
        return ""
    where = ", ".join(
        f"{count} of {evaluation.num_items}{f' ({variant.of})' if variant.of else ''}"
        for variant, count in counts.items()
    )
    return (
        f"the model's output is not finite (NaN or infinity) on validation items: {where}; they are not "
        "left out but count with the worst value of each metric"
    )
