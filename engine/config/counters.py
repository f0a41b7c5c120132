"""The four counters of a run: what every clock of the config is read from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.config.old_names import upgraded_counters
from engine.config.span import Span


@dataclass(frozen=True, slots=True)
class Counters:
    """How far a run has come.

    Attributes:
        updates: optimiser updates, the primary clock.
        micro_batches: forward and backward passes.
        items: training items seen.
        audio_seconds: seconds of training audio seen.
    """

    updates: int = 0
    micro_batches: int = 0
    items: int = 0
    audio_seconds: float = 0.0

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Counters:
        """Read them from plain values, such as those of a checkpoint of any version."""
        return cls(**upgraded_counters(values))

    def __add__(self, size: UpdateSize) -> Counters:
        """Return the counters after one more update."""
        # Seconds are kept to the nanosecond, so that those of equal items don't drift.
        return Counters(
            self.updates + 1,
            self.micro_batches + round(size.micro_batches),
            self.items + round(size.items),
            round(self.audio_seconds + size.audio_seconds, 9),
        )

    def on(self, span: Span) -> float:
        """Return the counter that `span` is measured on."""
        return float(getattr(self, span.clock))


@dataclass(frozen=True, slots=True)
class UpdateSize:
    """What one update adds to each counter: of a certain update whole numbers, else means."""

    micro_batches: float
    items: float
    audio_seconds: float

    def after(self, updates: int) -> Counters:
        """Return the counters after `updates` updates of this size."""
        return Counters(
            updates,
            round(updates * self.micro_batches),
            round(updates * self.items),
            updates * self.audio_seconds,
        )

    def updates_in(self, span: Span) -> float:
        """Convert `span` to updates, as a real number."""
        sizes = {"updates": 1.0, "micro_batches": self.micro_batches, "items": self.items}
        return span.amount / sizes.get(span.clock, self.audio_seconds)
