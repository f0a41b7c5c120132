"""Whether a run ends early: its evaluations so far, and the rules of `stop_when`.

A decision is a pure function of the settings, the evaluations and the reference's curve. The
evaluations are saved with every checkpoint, so a run that was killed stops where it would have
stopped. Free of torch.

Letters: N evaluations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from engine.config.counters import Counters, UpdateSize
from engine.config.schema import RunConfig
from engine.config.stop_when import StopConfig, stop_metric
from engine.metrics.registry import Metric, metric_of, variant_of
from engine.training.reference_rule import MIN_SHARE, ReferenceCurve, shortfall
from engine.training.schedules import total_updates


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a run ends early.

    Attributes:
        rule: the setting that decided: patience, target or reference.
        value: of the metric when it decided; the best so far, but for a target.
        text: as a person reads it.
    """

    rule: str
    value: float
    text: str


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The value of the metric at one evaluation, NaN where it was not finite."""

    counters: Counters
    value: float


class StopRules:
    """The rules of one run, and its evaluations so far.

    Args:
        config: the run.
        size: the mean size of its updates.
        reference: the curve of `stop_when.reference`; None: that rule is off.
    """

    def __init__(
        self, config: RunConfig, size: UpdateSize, *, reference: ReferenceCurve | None = None
    ) -> None:
        self.settings = config.stop_when
        self.name = stop_metric(config)
        self._metric = metric_of(self.name)
        self._size = size
        self._end = size.after(total_updates(config.schedule.length, size))
        self._reference = reference
        self._evaluations: list[Evaluation] = []

    @property
    def is_active(self) -> bool:
        """Whether any rule is set."""
        return self.settings.is_active

    def add(self, counters: Counters, metrics: Mapping[str, float]) -> None:
        """Add an evaluation; a second one at the same update replaces the first."""
        if self.name not in metrics:
            return
        value = float(metrics[self.name])
        if self._evaluations and self._evaluations[-1].counters.updates == counters.updates:
            self._evaluations.pop()
        self._evaluations.append(Evaluation(counters, value if math.isfinite(value) else math.nan))

    def stop(self, update: int) -> Stop | None:
        """Return why the run ends after `update`; None: it goes on, always where that has no evaluation."""
        if not self.is_active or not self._evaluations:
            return None
        now = self._evaluations[-1].counters
        if now.updates != update:
            return None
        after = self.settings.after
        if after is not None and now.on(after) < after.amount:
            return None
        return self._reached() or self._out_of_patience(now) or self._hopeless()

    def _reached(self) -> Stop | None:
        target, value = self.settings.target, self._evaluations[-1].value
        if target is None or not math.isfinite(value):
            return None
        if self._metric.is_better(target.stored, value):
            return None
        text = f"{self._title} reached {self._text(value)} (target {self._text(target.stored)})"
        return Stop("target", value, text)

    def _out_of_patience(self, now: Counters) -> Stop | None:
        patience = self.settings.patience
        if patience is None:
            return None
        best, since = last_improvement(
            self._evaluations, self._metric, min_delta=self.settings.min_delta.stored
        )
        if now.on(patience) - since.on(patience) < patience.amount:
            return None
        least = self.settings.min_delta.stored
        more = f" by more than {self._text(least)}" if least else ""
        told = (
            f"best {self._text(best)} at update {since.updates}" if best is not None else "no value"
        )
        text = f"{self._title} has not improved{more} for {patience} ({told})"
        return Stop("patience", math.nan if best is None else best, text)

    def _hopeless(self) -> Stop | None:
        if self._reference is None:
            return None
        sign = 1.0 if self._metric.rises else -1.0
        missing = shortfall(
            [(entry.counters.items, sign * entry.value) for entry in self._evaluations],
            self._reference.points(sign),
            end=self._end.items,
        )
        if missing is None or missing <= self.settings.tolerance.stored:
            return None
        best = self._metric.best(entry.value for entry in self._evaluations)
        aim = self._metric.best(self._reference.values)
        text = (
            f"{self._title} can't reach {self._reference.name} ({self._text(aim)}) any more: best "
            f"{self._text(best)}, expected to end at least {self._text(missing)} worse"
        )
        return Stop("reference", math.nan if best is None else best, text)

    @property
    def _title(self) -> str:
        variant = variant_of(self.name)
        return f"{variant.metric.title} ({variant.of})" if variant.of else variant.metric.title

    def _text(self, value: float | None) -> str:
        return self._metric.with_unit(value)

    def state_dict(self) -> dict[str, Any]:
        """Return the evaluations as JSON values."""
        rows = [
            {**asdict(entry.counters), "value": entry.value if math.isfinite(entry.value) else None}
            for entry in self._evaluations
        ]
        return {"metric": self.name, "evaluations": rows}

    def load_state_dict(self, state: Mapping[str, Any]) -> str:
        """Restore the evaluations; return a note where they are of another metric, and so don't count."""
        if not state:
            # Of an earlier version: what it measured is in the store alone.
            return ""
        if state["metric"] != self.name:
            self._evaluations = []
            return f"stop_when reads {self.name} instead of {state['metric']}, from here on"
        self._evaluations = [
            Evaluation(
                Counters.of({name: value for name, value in row.items() if name != "value"}),
                math.nan if row["value"] is None else float(row["value"]),
            )
            for row in state["evaluations"]
        ]
        return ""


def last_improvement(
    evaluations: Sequence[Evaluation], metric: Metric, *, min_delta: float
) -> tuple[float | None, Counters]:
    """Return the best value and the counters of the last improvement by more than `min_delta`.

    The first finite value is one; before it, the first evaluation counts.
    """
    best: float | None = None
    since = evaluations[0].counters
    for entry in evaluations:
        if not math.isfinite(entry.value):
            continue
        needed = entry.value - min_delta if metric.rises else entry.value + min_delta
        if metric.is_better(needed, best):
            best, since = entry.value, entry.counters
    return best, since


def earliest_stop(settings: StopConfig, size: UpdateSize, *, total: float) -> float:
    """Return the number of updates, of `total` in all, before which no rule can end a run."""
    earliest = [0.0] if settings.target is not None else []
    if settings.patience is not None:
        earliest.append(size.updates_in(settings.patience))
    if settings.reference is not None:
        earliest.append(MIN_SHARE * total)
    after = 0.0 if settings.after is None else size.updates_in(settings.after)
    return max(after, min(earliest, default=0.0))
