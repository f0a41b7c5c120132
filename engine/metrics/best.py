"""Which evaluation was the best one, for each metric whose best checkpoint is kept.

Owns which way each metric gets better, and by which one the runs of a task are judged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite

# By recipe: the metric that tables, charts and lists of runs show.
HEADLINES = {"separation": "si_sdr", "transducer": "wer"}
_FALLING = ("val_loss", "spectral", "lsd", "wer", "cer")


def is_better(metric: str, new: float, old: float | None) -> bool:
    """Tell whether `new` beats `old`; NaN beats nothing."""
    if not isfinite(new):
        return False
    if old is None:
        return True
    return new < old if falls(metric) else new > old


def falls(metric: str) -> bool:
    """Tell whether lower is better: losses, distances and error rates fall, ratios in dB rise."""
    return metric.startswith(_FALLING)


def is_rate(metric: str) -> bool:
    """Tell whether a metric is a share, which people read in percent."""
    return metric.startswith(("wer", "cer"))


class BestMetrics:
    """The best value of each watched metric so far."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)
        self._values: dict[str, float] = {}

    def update(self, metrics: Mapping[str, float]) -> list[str]:
        """Take in an evaluation; return the watched metrics it is the best of."""
        better = [
            name
            for name in self._names
            if name in metrics and is_better(name, metrics[name], self._values.get(name))
        ]
        self._values |= {name: metrics[name] for name in better}
        return better

    def state_dict(self) -> dict[str, float]:
        """Return the best value by metric."""
        return dict(self._values)

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Take them from `state`."""
        self._values = {name: float(value) for name, value in state.items()}
