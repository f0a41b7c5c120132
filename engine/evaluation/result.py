"""The result of an evaluation: means, the values of the items behind them, and audio to listen to."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, slots=True)
class Clip:
    """A validation item to listen to: kind -> (C, T) float32; input, target and estimate.

    Several sources differ by a suffix: target.vocals, estimate.vocals.
    """

    item: int
    rate_hz: int
    signals: dict[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Means over the validation items, with the count of items left out (silent references).

    Attributes:
        metrics: means by name.
        num_items: N, how many items were evaluated.
        num_excluded: how many of them have no SI-SDR.
        items: name -> (N,) float64, what the means were taken of; NaN for an item left out.
        items_key: names the items: evaluations with equal keys can be compared item by item.
        clips: the first items as audio, as many as `validation.clips` asks for.
    """

    metrics: dict[str, float]
    num_items: int
    num_excluded: int
    items: dict[str, np.ndarray] = field(default_factory=dict)
    items_key: str = ""
    clips: tuple[Clip, ...] = ()
