"""Real numbers on the command line: finite, and within bounds."""

from __future__ import annotations

import math
from typing import Any

import click


class Number(click.FloatRange):
    """A number between bounds; NaN is refused, which no comparison with a bound does."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number."""
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value} is not in the range {self._describe_range()}.", param, ctx)
        return number
