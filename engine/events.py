"""The events that a training run emits: typed, past-tense facts, and the observer that receives them.

The trainer depends on no store, screen or network; sinks in `jobs.sinks` implement `Observer`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

import numpy as np

from engine.config.counters import Counters
from engine.metrics.registry import NON_FINITE, metric_of


@dataclass(frozen=True, slots=True)
class RunStarted:
    """The run is about to start its next update; `resumed_from` is 0 for a new run."""

    counters: Counters
    total_updates: int
    resumed_from: int
    device: str
    num_parameters: int
    num_train_items: int
    num_valid_items: int


@dataclass(frozen=True, slots=True)
class StageProgressed:
    """A stage before training came on: `done` of `total` steps; it is the `number`-th of `count` stages.

    `saved` says that all of it is on disk, so that no start of the run can lose it.
    """

    name: str
    done: int
    total: int
    number: int = 1
    count: int = 1
    saved: bool = False

    @property
    def text(self) -> str:
        """Return how far it is, as a person reads it: `stage clusters 40 %`."""
        share = self.done / self.total if self.total else 1.0
        return f"stage {self.name} {int(100 * share)} %"


@dataclass(frozen=True, slots=True)
class PointsRecorded:
    """A block of consecutive points of the training curves.

    Attributes:
        updates: (N,) int64, the update each point belongs to.
        series: name -> (N,) float64; NaN where an update had no finite value.
        units: name -> unit, empty for pure numbers.
        counters: the counters at the last point.
    """

    updates: np.ndarray
    series: dict[str, np.ndarray]
    units: dict[str, str]
    counters: Counters


@dataclass(frozen=True, slots=True)
class Evaluated:
    """An evaluation ended; `metrics` holds si_sdr, si_sdr_ema, si_sdri, val_loss, ... by name.

    `items` holds the value of each item, (N,) float64 by name, NaN where an item has none;
    evaluations with equal `items_key` used the same items in the same order. Items whose estimate is
    not finite are not excluded: `non_finite` in `items` is 1 for them. A `late` one brings metrics that
    took long, of weights of an earlier update: that of its counters.
    """

    counters: Counters
    metrics: dict[str, float]
    units: dict[str, str]
    duration_s: float
    num_items: int
    num_excluded: int
    items: dict[str, np.ndarray] = field(default_factory=dict)
    items_key: str = ""
    late: bool = False

    @property
    def num_bad(self) -> int:
        """How many items had an estimate that is not finite, by any of the weights, or as whole files."""
        flags = [
            of_N > 0 for name, of_N in self.items.items() if metric_of(name).name == NON_FINITE
        ]
        return int(np.logical_or.reduce(flags).sum()) if flags else 0


@dataclass(frozen=True, slots=True)
class ClipFile:
    """Audio of a validation item; paths are relative to the run's folder.

    `updates` is 0 for input and target, which no update changes. `text` is what is to be said, of an input, and
    what a judge heard, of an estimate.
    """

    updates: int
    item: int
    kind: str
    path: str
    spectrogram: str
    text: str | None = None


@dataclass(frozen=True, slots=True)
class ClipsWritten:
    """An evaluation wrote clips to disk."""

    counters: Counters
    files: tuple[ClipFile, ...]


@dataclass(frozen=True, slots=True)
class CheckpointSaved:
    """A checkpoint is complete on disk; `kind` is `last` or `best-<metric>`."""

    kind: str
    path: str
    counters: Counters
    metrics: dict[str, float]
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Noticed:
    """A notice for the user: skipped updates, a damaged checkpoint, ..."""

    level: Literal["info", "warning", "error"]
    kind: str
    message: str
    counters: Counters | None = None
    details: dict[str, float | int | str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunEnded:
    """The run ended in an orderly way; `stopped` runs have a checkpoint to resume from.

    `early` runs have finished by a rule of `stop_when`, before their length.
    """

    outcome: Literal["finished", "stopped"]
    counters: Counters
    reason: str
    early: bool = False


Event = (
    RunStarted
    | StageProgressed
    | PointsRecorded
    | Evaluated
    | ClipsWritten
    | CheckpointSaved
    | Noticed
    | RunEnded
)


class Observer(Protocol):
    """Receives every event, on the training thread: it must return at once."""

    def on_event(self, event: Event) -> None:
        """Handle one event."""


class Control(Protocol):
    """Queried once per update; must cost almost nothing."""

    def stop_reason(self) -> str | None:
        """Return why the run must stop now, or None to continue."""


@runtime_checkable
class Interrupting(Protocol):
    """A control that is asked within an evaluation, too, before each forward pass of a module."""

    def interruption(self) -> str | None:
        """Return why the evaluation must stop now, or None to continue."""
