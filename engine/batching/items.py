"""What plans are made of: items by number, and the micro-batches they are packed into. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ItemDraw:
    """Names one training item: its index and the epoch that its random draws belong to."""

    epoch: int
    index: int


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Items that are on the device at once.

    Attributes:
        draws: the items.
        shape: what every item is padded or cropped to, (seconds,) or (seconds, tokens); empty where
            the items have one size by nature.
    """

    draws: tuple[ItemDraw, ...]
    shape: tuple[float, ...] = ()

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self.draws)
