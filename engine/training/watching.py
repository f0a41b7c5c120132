"""Shows a recipe its curves as they are read back, and does what it finds (`WatchesCurves`).

Owns the points that the recipe looks back on and which conditions were reported; both are saved with every
checkpoint, so a resumed run finds what an uninterrupted one does, and reports nothing twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.config.counters import Counters
from engine.events import Event, Noticed
from engine.recipes.base import CurvePoints, WatchesCurves


class TrainingCollapsed(ValueError):
    """A recipe found in its curves that training has collapsed."""


class CurveWatch:
    """What one recipe watches."""

    def __init__(self, recipe: WatchesCurves, *, emit: Callable[[Event], None]) -> None:
        self._recipe = recipe
        self._emit = emit
        self._kept = CurvePoints(np.zeros(0, dtype=np.int64), {})
        self._reported: list[str] = []
        self._is_fresh = False

    def add(self, updates: np.ndarray, series: Mapping[str, np.ndarray]) -> None:
        """Add the points (N,) of a block."""
        old, self._is_fresh = self._kept, True
        series = {
            name: np.concatenate([old.series.get(name, np.full(len(old.updates), np.nan)), values])
            for name, values in series.items()
        }
        self._kept = CurvePoints(np.concatenate([old.updates, updates]), series)

    def check(self, counters: Counters) -> None:
        """Let the recipe look at the points since the last check, and as far back as it needs.

        Raises:
            TrainingCollapsed: when a finding ends the run.
        """
        if not self._is_fresh:
            return
        self._is_fresh = False
        findings = self._recipe.watch(self._kept)
        self._forget()
        for finding in findings:
            if finding.ends:
                raise TrainingCollapsed(finding.text)
            if finding.condition in self._reported:
                continue
            self._reported.append(finding.condition)
            self._emit(
                Noticed("warning", finding.condition, message=finding.text, counters=counters)
            )

    def _forget(self) -> None:
        """Drop the points that no later check needs."""
        points = self._kept
        needed = points.updates >= points.updates[-1] - self._recipe.watch_updates
        series = {name: values[needed] for name, values in points.series.items()}
        self._kept = CurvePoints(points.updates[needed], series)

    def tensors(self) -> dict[str, Tensor]:
        """Return the points: updates (N,) and values (S, N)."""
        values = list(self._kept.series.values())
        return {
            "updates": torch.from_numpy(self._kept.updates.copy()),
            "values": torch.from_numpy(np.stack(values) if values else np.zeros((0, 0))),
        }

    def values(self) -> dict[str, Any]:
        """Return the names of the S curves, and what was reported, as JSON values."""
        return {"names": list(self._kept.series), "reported": list(self._reported)}

    def load_state_dict(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Take over the points and reports of a checkpoint; none where it has none."""
        self._reported = [str(name) for name in values.get("reported", [])]
        if "updates" in tensors:
            rows = dict(zip(values["names"], tensors["values"].numpy(), strict=True))
            self._kept = CurvePoints(tensors["updates"].numpy(), rows)
