"""Which evaluation, and which checkpoint of several, is the best one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from engine.metrics.registry import BUILT_IN, metric_of, variant_of

_PREFIX = "best-"


class BestMetrics:
    """The best value of each watched metric so far."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)
        self._values: dict[str, float] = {}

    def update(self, metrics: Mapping[str, float]) -> list[str]:
        """Add an evaluation; return the watched metrics by which it is the best so far."""
        better = [
            name
            for name in self._names
            if name in metrics and metric_of(name).is_better(metrics[name], self._values.get(name))
        ]
        self._values |= {name: metrics[name] for name in better}
        return better

    def state_dict(self) -> dict[str, float]:
        """Return the best value by metric."""
        return dict(self._values)

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Restore the values of `state`."""
        self._values = {name: float(value) for name, value in state.items()}


def best_checkpoint(metrics_by_kind: Mapping[str, Mapping[str, float]]) -> str | None:
    """Choose the checkpoint that represents a run.

    The headline metric of the task decides, else another score, else the loss; excerpts, which every
    evaluation covers, before whole files. Of the weights and their average the better value is
    taken, the average when they are equal. Without any `best-<metric>` it is `last`.

    Args:
        metrics_by_kind: kind of checkpoint (`best-si_sdr_ema`, `last`) -> its metrics, by stored name.

    Returns:
        The kind, None when there is no checkpoint.
    """
    names = [kind.removeprefix(_PREFIX) for kind in metrics_by_kind if kind.startswith(_PREFIX)]
    if not names:
        return "last" if "last" in metrics_by_kind else next(iter(metrics_by_kind), None)
    top = min(map(_rank, names))
    chosen, old = "", None
    rivals = [name for name in names if _rank(name) == top]
    for name in sorted(rivals, key=lambda name: not variant_of(name).ema):
        value = metrics_by_kind[_PREFIX + name].get(name)
        if not chosen or (value is not None and metric_of(name).is_better(value, old)):
            chosen, old = name, value
    return f"{_PREFIX}{chosen}"


def _rank(name: str) -> tuple[bool, bool, int, bool]:
    what = variant_of(name)
    metric = what.metric
    place = BUILT_IN.index(metric) if metric in BUILT_IN else len(BUILT_IN)
    return not metric.headline_of, metric.family == "loss", place, what.full
