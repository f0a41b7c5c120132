"""Which items form which update: a pure function, free of hardware.

Items come from a stream of epochs, each a permutation keyed by (seed, epoch); update k takes the
positions k G to (k + 1) G of that stream. So every item is used exactly once per epoch, an update
may span two epochs, and resuming needs nothing but the number of the update.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from itertools import pairwise
from typing import Protocol

import numpy as np

from engine.batching.items import ItemDraw, MicroBatch
from engine.config.counters import UpdateSize
from engine.item_random import item_generator


class Plan(Protocol):
    """The interface of a plan that the loader and the trainer use."""

    def micro_batches(self, update: int) -> Sequence[MicroBatch]:
        """Return the items of an update (counted from 0), packed for the device."""

    def update_size(self, update: int) -> UpdateSize:
        """Return exactly what an update (counted from 0) adds to each counter."""

    @property
    def mean_size(self) -> UpdateSize:
        """Return what an update adds on average: the clocks of the config are converted with it."""

    @property
    def hash(self) -> str:
        """Return the hash of the plan: equal hashes give equal updates."""


@dataclass(frozen=True, slots=True)
class FixedPlan:
    """Every update holds exactly `items_per_update` items.

    Attributes:
        num_items: size of the dataset.
        items_per_update: items of one optimizer update, G.
        micro_batch: maximum items per micro-batch; does not change the items of an update.
        seed: seed of the permutations.
        manifest: hash of the dataset's content, so that a resume detects changed files.
        item_s: seconds of audio of each item.
        rank: which of the `world` devices this is.
        world: devices that share the items of an update.
    """

    num_items: int
    items_per_update: int
    micro_batch: int
    seed: int
    manifest: str = ""
    item_s: float = 0.0
    rank: int = 0
    world: int = 1

    def __post_init__(self) -> None:
        for name in ("num_items", "items_per_update", "micro_batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, found {getattr(self, name)}")

    @property
    def hash(self) -> str:
        """Return 16 hex digits over all that decides which items form an update."""
        text = f"fixed-1 {self.num_items} {self.items_per_update} {self.seed} {self.manifest}"
        return sha256(text.encode()).hexdigest()[:16]

    @property
    def micro_batches_per_update(self) -> int:
        """Return how many micro-batches an update is packed into, over all ranks."""
        each = self._micro_batches_per_rank
        return sum(min(high - low, each) for low, high in map(self._share, range(self.world)))

    def _share(self, rank: int) -> tuple[int, int]:
        """Return the range of an update's items that belongs to a rank."""
        return (
            self.items_per_update * rank // self.world,
            self.items_per_update * (rank + 1) // self.world,
        )

    @property
    def _micro_batches_per_rank(self) -> int:
        most = -(-self.items_per_update // self.world)
        return -(-most // self.micro_batch)

    def update_items(self, update: int) -> list[ItemDraw]:
        """Return the items of an update, counted from 0."""
        draws: list[ItemDraw] = []
        position = update * self.items_per_update
        end = position + self.items_per_update
        while position < end:
            epoch, offset = divmod(position, self.num_items)
            taken = epoch_order(self.seed, epoch, num_items=self.num_items)[
                offset : offset + end - position
            ]
            draws.extend(ItemDraw(epoch, index) for index in taken.tolist())
            position += len(taken)
        return draws

    def micro_batches(self, update: int) -> list[MicroBatch]:
        """Return this rank's items of an update in runs of at most `micro_batch`.

        All ranks have equally many runs. A run is empty only where an update has fewer items.
        """
        items = self.update_items(update)
        low, high = self._share(self.rank)
        own, count = items[low:high], self._micro_batches_per_rank
        borders = [min(place * self.micro_batch, len(own)) for place in range(count + 1)]
        if -(-len(own) // self.micro_batch) < count:
            borders = [place * len(own) // count for place in range(count + 1)]
        return [MicroBatch(tuple(own[first:end])) for first, end in pairwise(borders)]

    def update_size(self, update: int) -> UpdateSize:
        """Return what any update adds to each counter."""
        return self.mean_size

    @property
    def mean_size(self) -> UpdateSize:
        """Return what any update adds to each counter."""
        items = self.items_per_update
        return UpdateSize(
            self.micro_batches_per_update,
            items,
            audio_seconds=items * self.item_s,
            epochs=items / self.num_items,
        )


@lru_cache(maxsize=4)
def epoch_order(seed: int, epoch: int, *, num_items: int) -> np.ndarray:
    """Return the items of an epoch in the order of the stream: (num_items,), not to be written to."""
    order = item_generator(seed, epoch, 0, "order").permutation(num_items)
    order.flags.writeable = False
    return order
