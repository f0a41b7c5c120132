"""A value of a metric, as a setting gives it: `12.0`, `"12 dB"`, `0.05` or `"5 %"`.

A plain number is in the unit in which the metric is stored, so a rate is a fraction. Which units a
metric has is the registry's to say; `problem` compares them.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from engine.metrics.registry import Metric

_NUMBER = r"[+-]?[0-9][0-9_]*(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"
_PATTERN = re.compile(rf"\s*({_NUMBER})\s*(%|[A-Za-z]+)?\s*")
_EXPECTED = "expected a finite number, with or without its unit, like 12.0, '12 dB', 0.05 or '5 %'"
# Ratios in decibels are limited to this at either end (`engine.metrics.signal`).
_LIMIT_DB = 100.0


@dataclass(frozen=True, slots=True)
class Quantity:
    """`amount` in `unit`; without a unit it is as values are stored."""

    amount: float
    unit: str = ""

    @property
    def stored(self) -> float:
        """The value as the metric is stored: percent become a fraction."""
        return self.amount / 100 if self.unit == "%" else self.amount

    def __str__(self) -> str:
        whole = float(self.amount).is_integer() and abs(self.amount) < 1e15
        number = int(self.amount) if whole else self.amount
        return f"{number} {self.unit}".rstrip()

    @classmethod
    def read(cls, value: object) -> Quantity:
        """Read a number, or text of a number and a unit.

        Raises:
            ValueError: when it is neither, or not finite.
        """
        if isinstance(value, cls):
            return value
        if isinstance(value, int | float) and not isinstance(value, bool):
            amount, unit = float(value), ""
        else:
            match = _PATTERN.fullmatch(value) if isinstance(value, str) else None
            if match is None:
                raise ValueError(_EXPECTED)
            amount, unit = float(match[1].replace("_", "")), match[2] or ""
        if not math.isfinite(amount):
            raise ValueError(_EXPECTED)
        return cls(amount, unit)

    def problem(self, metric: Metric, *, difference: bool = False) -> str:
        """Return why this can't be a value of a metric, or a difference of two; empty if it can."""
        if self.unit and self.unit != metric.unit:
            return f"is in {self.unit}, but {metric.title} {_measured_in(metric)}"
        if difference and self.amount < 0:
            return "expected a number >= 0"
        if metric.is_rate and not 0 <= self.stored < 1:
            return (
                f"expected a fraction from 0 to 1, or percent: {metric.title} is a rate, so write "
                f"0.05 or '5 %'"
            )
        if metric.unit == "dB" and abs(self.stored) > _LIMIT_DB:
            return f"expected a number from {-_LIMIT_DB:g} to {_LIMIT_DB:g}"
        return ""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(
            cls.read,
            core_schema.any_schema(),
            serialization=core_schema.plain_serializer_function_ser_schema(_as_plain),
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: Any) -> dict[str, Any]:
        text = {"type": "string", "pattern": f"^{_PATTERN.pattern}$"}
        return {"anyOf": [{"type": "number"}, text], "examples": [12.0, "5 %"]}


def _as_plain(value: Quantity) -> float | str:
    return str(value) if value.unit else value.amount


def _measured_in(metric: Metric) -> str:
    return f"is measured in {metric.unit}" if metric.unit else "has no unit"
