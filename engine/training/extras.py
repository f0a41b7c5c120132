"""Metrics and statistics that a recipe's steps return besides the loss, as one flat vector per update.

Owns the layout of that vector, (E,): sum and weight of each training metric, then the statistics. It
is summed over micro-batches here and over ranks in `engine.training.ranks`. A recipe that has
neither pays for an attribute.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from engine.recipes.base import (
    MeasuresTraining,
    MeasuresUpdates,
    Recipe,
    StepOutput,
    SumsStatistics,
)
from engine.training.named_sums import NamedSums, require_names


class Extras:
    """The metrics and statistics that a recipe has declared.

    Attributes:
        units: training metric -> unit, in the order of `metrics`: those of the steps, then those that
            follow from the statistics.
        size: E.
    """

    def __init__(self, recipe: Recipe) -> None:
        self._of_steps = (
            dict(recipe.training_metrics) if isinstance(recipe, MeasuresTraining) else {}
        )
        self._measurer = recipe if isinstance(recipe, MeasuresUpdates) else None
        self._of_updates = dict(self._measurer.update_metrics) if self._measurer else {}
        self.units = self._of_steps | self._of_updates
        shapes = recipe.statistics if isinstance(recipe, SumsStatistics) else {}
        self._statistics = NamedSums(shapes, declared_in="statistics")
        self._num_metrics = 2 * len(self._of_steps)
        self.size = self._num_metrics + self._statistics.size

    def flatten(self, output: StepOutput) -> Tensor:
        """Return the vector of one step, float32, on the device of the loss.

        Raises:
            ValueError: when the step gave other names or shapes than the recipe has declared.
        """
        metrics = output.metrics
        require_names("metrics", metrics, declared=self._of_steps)
        parts = []
        if self._of_steps:
            numbers = [part for name in self._of_steps for part in metrics[name]]
            parts.append(torch.stack([number.detach().float() for number in numbers]))
        parts += self._statistics.flatten(output.statistics)
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def require_other_names(self, metrics: Mapping[str, float]) -> None:
        """Refuse metrics of an evaluation that share a name with training metrics.

        Raises:
            ValueError: naming one of them, and a name to use.
        """
        taken = sorted(self.units.keys() & metrics.keys())
        if taken:
            raise ValueError(
                f"the recipe has a training metric and a validation metric named {taken[0]!r}; rename the "
                f"latter to val_{taken[0]} in its package"
            )

    def zeros(self, device: torch.device) -> Tensor:
        """Return the vector of a rank that had no items."""
        return torch.zeros(self.size, device=device)

    def metrics(self, vector: Tensor) -> Tensor | None:
        """Return (2 M,) sum and weight of each metric in turn; None where there is none."""
        if not self.units:
            return None
        own = vector[: self._num_metrics]
        if self._measurer is None:
            return own
        found = self._measurer.measure(self.statistics(vector))
        require_names("update metrics", found, declared=self._of_updates)
        one = torch.ones((), device=vector.device)
        pairs = [part for name in self._of_updates for part in (found[name].float(), one)]
        return torch.cat([own, torch.stack(pairs)])

    def statistics(self, vector: Tensor) -> dict[str, Tensor]:
        """Return the statistics by name, in their shapes."""
        return self._statistics.unflatten(vector[self._num_metrics :])
