"""A measured value, and what it rests on: units of test data that are independent of each other.

A unit is a take of a speaker, or a speaker: items of one are alike, so an interval counts units, not
items. Every measure of this room says what each unit adds: the values of the units have the measure as
their mean, and vary as much as the measure depends on them (jackknife pseudo-values; Tukey 1958).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, slots=True)
class Estimate:
    """A measure of test data.

    Attributes:
        value: the measure.
        units: name of a unit -> what it adds; their mean is `value`. Empty where it can't be said.
    """

    value: float
    units: Mapping[str, float] = field(default_factory=dict)


def mean_of(values_N: np.ndarray, units: Sequence[str]) -> Estimate:
    """Return the mean over items, with what each unit adds to it."""
    sums: dict[str, float] = {}
    for value, unit in zip(values_N.tolist(), units, strict=True):
        sums[unit] = sums.get(unit, 0.0) + float(value)
    scale = len(sums) / max(1, len(values_N))
    value = float(np.mean(values_N)) if len(values_N) else float("nan")
    # Units with more items weigh more in the mean, and so they do here.
    return Estimate(value, {unit: total * scale for unit, total in sums.items()})


def jackknifed(value: float, without: Mapping[str, float]) -> Estimate:
    """Return a measure with what each unit adds, from its values without each of the units.

    The bias that the jackknife would take off is left on, so that the mean is the measure itself.
    """
    names = [unit for unit, other in without.items() if np.isfinite(other)]
    if len(names) < 2:
        return Estimate(value)
    other_U = np.array([without[unit] for unit in names])
    adds_U = value + (len(names) - 1) * (other_U.mean() - other_U)
    return Estimate(value, dict(zip(names, adds_U.tolist(), strict=True)))
