"""The five counters of a run, on which every clock of the config is measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from engine.config.old_names import upgraded_counters
from engine.config.span import Span


class EpochsUnknown(ValueError):
    """Epochs can't be converted to updates without the number of training items."""


@dataclass(frozen=True, slots=True)
class Counters:
    """The progress of a run.

    Attributes:
        updates: optimizer updates, the primary clock.
        micro_batches: forward and backward passes.
        items: training items seen.
        audio_seconds: seconds of training audio seen.
        epochs: passes over the training items, to the ninth digit; 0 where their number isn't known.
            A function of `updates`: each one is an equal share of a pass, whatever it holds.
    """

    updates: int = 0
    micro_batches: int = 0
    items: int = 0
    audio_seconds: float = 0.0
    epochs: float = 0.0

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Counters:
        """Read them from plain values, such as those of a checkpoint of any version.

        Raises:
            ValueError: when there are others, or one is no number.
        """
        counters = upgraded_counters(values)
        names = {field.name for field in fields(cls)}
        for name, count in counters.items():
            if name not in names or type(count) not in (int, float) or not 0 <= count < 2**63:
                raise ValueError(f"counter {name!r:.40} = {count!r:.40}: no number of its kind")
        return cls(**counters)

    def __add__(self, size: UpdateSize) -> Counters:
        """Return the counters after one more update."""
        # Seconds are rounded to the nanosecond, so that sums over equal items don't drift.
        return Counters(
            self.updates + 1,
            self.micro_batches + round(size.micro_batches),
            items=self.items + round(size.items),
            audio_seconds=round(self.audio_seconds + size.audio_seconds, 9),
            epochs=size.epochs_in(self.updates + 1),
        )

    def on(self, span: Span) -> float:
        """Return the counter that measures `span`."""
        return float(getattr(self, span.clock))


@dataclass(frozen=True, slots=True)
class UpdateSize:
    """What one update adds to each counter: whole numbers for a specific update, else means.

    `epochs` is the share of a pass over the training items, 0 where their number isn't known; all
    updates of a plan have the same.
    """

    micro_batches: float
    items: float
    audio_seconds: float
    epochs: float = 0.0

    def after(self, updates: int) -> Counters:
        """Return the counters after `updates` updates of this size."""
        return Counters(
            updates,
            round(updates * self.micro_batches),
            items=round(updates * self.items),
            audio_seconds=updates * self.audio_seconds,
            epochs=self.epochs_in(updates),
        )

    def epochs_in(self, updates: int) -> float:
        """Return how many passes over the training items `updates` updates are."""
        # Rounded, so that a third and two thirds are one epoch.
        return round(updates * self.epochs, 9)

    def updates_in(self, span: Span) -> float:
        """Convert `span` to updates, as a real number.

        Raises:
            EpochsUnknown: when it counts epochs, and the number of items isn't known.
        """
        if span.clock == "updates":
            return span.amount
        each = float(getattr(self, span.clock))
        if span.clock == "epochs" and not each:
            raise EpochsUnknown(f"{span}: the length of an epoch is unknown until the data is read")
        return span.amount / each
