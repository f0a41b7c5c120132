"""What a metric is: title, unit, direction, how it is written.

Rates are stored as fractions and written in percent. Free of torch and pydantic.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

_MISSING = "–"

Family = Literal["score", "loss"]


@dataclass(frozen=True, slots=True)
class Reading:
    """How the terms of a loss are read: their names in training, what matters first, and a hint in a few words."""

    order: tuple[str, ...]
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Metric:
    """What a measured quantity is and how it is written.

    Attributes:
        name: as it is stored, without suffixes.
        title: as tables and charts write it.
        unit: of a value times `scale`; "%" for rates.
        scale: stored values are multiplied by it to be shown.
        rises: whether higher is better.
        family: a loss is only comparable between runs that minimise the same one.
        of_input: measured on the input of the model, so the same for any weights.
        whole_files: whether it can be measured on whole files beside excerpts.
        is_main: whether a log line and a comparison show it without being asked.
        is_target: whether the best checkpoint by it can be kept.
        headline_of: the recipes whose runs are listed by it.
        of_training: measured by the steps of training, so a curve like that of the loss.
        worst: the value of an item whose estimate is not finite; None: there is no such bound, so the
            item makes the mean infinite.
        margin: smallest difference that counts, as stored, unless a person sets another; 0 for none.
        relative_margin: the same as a fraction of the reference's value, for metrics without a scale.
        same: dotted settings, or sections, that runs must share for their values to mean the same: a
            loss, a set of labels, a mask. A comparison of others is refused, and charts keep them apart.
        reference: the metric of the same run that a chart draws beside it, as a dotted line: what it would
            cost to guess.
        chance: what guessing comes to, from the plain values of a run's config, None where they don't say;
            a chart draws it as a dotted line, too.
        reading: of a term of the loss of its recipe: how such terms are read, from the plain values of a
            run's config; charts draw each term apart.
        needs: dotted setting without which evaluations don't measure it.
        measured_by: the built-in recipes whose evaluations measure it; empty: not known, or any.
        measure: the entry of `validation.metrics` that asks for it (`engine.metrics.measures`), then on
            whole files only; empty for what every evaluation has.
        summary: how the value of a run follows from those of its items.
    """

    name: str
    title: str
    unit: str = ""
    scale: float = 1.0
    rises: bool = True
    family: Family = "score"
    of_input: bool = False
    whole_files: bool = False
    is_main: bool = False
    is_target: bool = False
    headline_of: tuple[str, ...] = ()
    of_training: bool = False
    worst: float | None = None
    margin: float = 0.0
    relative_margin: float = 0.0
    same: tuple[str, ...] = ()
    reference: str = ""
    chance: Callable[[Mapping[str, Any]], float | None] | None = None
    reading: Callable[[Mapping[str, Any]], Reading] | None = None
    needs: str = ""
    measured_by: tuple[str, ...] = ()
    measure: str = ""
    summary: Literal["mean", "median"] = "mean"

    def text(self, value: float | None) -> str:
        """Write a value: two decimals; percent with its sign and about three digits."""
        if value is None or not math.isfinite(value):
            return _MISSING
        shown = value * self.scale
        if self.unit != "%":
            return f"{shown:.2f}"
        return f"{shown:.{2 if shown < 9.995 else 1 if shown < 99.95 else 0}f}%"

    def with_unit(self, value: float | None) -> str:
        """Write a value with its unit."""
        text = self.text(value)
        return f"{text} {self.unit}" if self.unit not in ("", "%") and text != _MISSING else text

    @property
    def of_bad_item(self) -> float:
        """Value of an item whose estimate is not finite: never better than a real one."""
        if self.worst is not None:
            return self.worst
        return -math.inf if self.rises else math.inf

    @property
    def is_rate(self) -> bool:
        """Whether it is a share, read in percent."""
        return self.unit == "%"

    def is_better(self, new: float, old: float | None) -> bool:
        """Return whether `new` beats `old`; NaN beats nothing, and anything finite beats None."""
        if not math.isfinite(new):
            return False
        return old is None or (new > old if self.rises else new < old)

    def best(self, values: Iterable[float | None]) -> float | None:
        """Return the best of the finite values; None when there is none."""
        finite = [value for value in values if value is not None and math.isfinite(value)]
        return (max if self.rises else min)(finite, default=None)

    @property
    def stored_unit(self) -> str:
        """Unit of a value as it is stored: rates are plain fractions there."""
        return self.unit if self.scale == 1 else ""
