"""Whether a run over-fits: validation beside a sample of training items, scored alike by the same weights.

Owns the curves of the gap and its trend, and the decision that validation rises while training items still
improve. All of it is a function of the evaluations so far, which every checkpoint holds. Free of torch.

A rise counts where the last evaluations (`overfit_after` of them, or 2, 4, 8 ... times as many) rise by more than
validation wanders by itself (`engine.training.rising`) while training items fall (Mann and Kendall's statistic), and
where validation is above its best by more than the smallest difference that counts for the metric.
Letters: N evaluations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from engine.config.counters import Counters
from engine.config.schema import RunConfig
from engine.metrics.registry import (
    GAP,
    GAP_TREND,
    LOSS,
    headline,
    metric_of,
    stored_name,
)
from engine.training.rising import has_risen, quarters

# Of the trend of training items, in standard deviations without one.
_FALLS = 2.0
# Evaluations from which on there is a trend to draw.
_FEW = 3


class OverfitWatch:
    """The losses of one run on validation and on training items, evaluation by evaluation.

    Args:
        config: the run.
    """

    def __init__(self, config: RunConfig) -> None:
        named = headline(config.recipe)
        self.name = named if metric_of(named).family == "loss" else LOSS
        self._after = config.validation.overfit_after
        self._updates: list[int] = []
        self._valid: list[float] = []
        self._train: list[float] = []
        self._is_reported = False

    def add(self, counters: Counters, metrics: Mapping[str, float]) -> dict[str, float]:
        """Add an evaluation; return the gap and its trend, as far as they are known.

        A second evaluation of one update replaces the first.
        """
        train, valid = metrics.get(stored_name(self.name, train=True)), metrics.get(self.name)
        if train is None or valid is None or not (math.isfinite(train) and math.isfinite(valid)):
            return {}
        if self._updates and self._updates[-1] == counters.updates:
            for values in (self._updates, self._valid, self._train):
                values.pop()
        self._updates.append(counters.updates)
        self._valid.append(float(valid))
        self._train.append(float(train))
        gap_N = np.subtract(self._valid, self._train)[-self._after - 1 :]
        found = {GAP: float(gap_N[-1])}
        if len(gap_N) >= _FEW:
            found[GAP_TREND] = float(np.polyfit(np.arange(len(gap_N)), gap_N, 1)[0])
        return found

    def report(self) -> str:
        """Return what to tell the user, once a run, when the last evaluations show over-fitting; else empty."""
        if self._is_reported or not (steps := self._diverges()):
            return ""
        self._is_reported = True
        metric = metric_of(self.name)
        best = int(np.argmin(self._valid))
        return (
            f"over-fitting: over the last {steps} evaluations, {metric.title} has risen by more than it varies by "
            f"itself, while the same loss of training items fell ({metric.with_unit(self._valid[-1])} and "
            f"{metric.with_unit(self._train[-1])}, gap {self._valid[-1] - self._train[-1]:.2f}); it was best at update {self._updates[best]} "
            f"({metric.with_unit(self._valid[best])}), and that checkpoint is kept if checkpoint.best has "
            f"{self.name}. More data, a lower optimizer.lr or a shorter run help; stop_when.patience ends such runs"
        )

    def _diverges(self) -> int:
        """Return over how many evaluations validation has risen while training items fell; 0: it has not."""
        best, metric = min(self._valid, default=0.0), metric_of(self.name)
        margin = max(metric.margin, metric.relative_margin * abs(best))
        (risen,) = has_risen(np.array([self._valid]), after=self._after)
        for size, has in zip(quarters(len(self._valid), after=self._after), risen, strict=True):
            is_worse = float(np.mean(self._valid[-size:])) - best > margin
            if has and is_worse and trend(self._train[-4 * size :]) <= -_FALLS:
                return 4 * size
        return 0

    def state_dict(self) -> dict[str, Any]:
        """Return the evaluations as JSON values."""
        return {
            "metric": self.name, "updates": list(self._updates), "valid": list(self._valid),
            "train": list(self._train), "reported": self._is_reported,
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the evaluations; a checkpoint of an earlier version has none."""
        if state.get("metric") != self.name:
            return
        updates = [int(update) for update in state["updates"]]
        valid, train = ([float(value) for value in state[name]] for name in ("valid", "train"))
        if not len(updates) == len(valid) == len(train):
            raise ValueError("overfit: its evaluations differ in number")
        self._updates, self._valid, self._train = updates, valid, train
        self._is_reported = bool(state["reported"])


def trend(value_N: Sequence[float]) -> float:
    """Return Mann and Kendall's statistic of a series, in standard deviations of one without a trend."""
    value = np.asarray(value_N)
    count = len(value)
    # Later minus earlier, of all pairs.
    signs = np.sign(value[None, :] - value[:, None])
    score = float(np.triu(signs).sum())
    return score / math.sqrt(count * (count - 1) * (2 * count + 5) / 18)
