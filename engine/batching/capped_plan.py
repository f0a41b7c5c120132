"""The plan of a run in one of the seven modes that fill the device up to a limit."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256

import numpy as np

from engine.batching.capped import CappedEpochs, Epoch
from engine.batching.items import ItemDraw, MicroBatch
from engine.config.counters import UpdateSize


@dataclass(frozen=True, slots=True, eq=False)
class CappedPlan:
    """An update is `accumulation` batches of each rank; which items those are depends on the ranks.

    Attributes:
        mode: name of the mode.
        epochs: plans the batches of an epoch.
        manifest: hash of the dataset's content, so that a resume detects changed files.
        rank: which of the ranks this is.
    """

    mode: str
    epochs: CappedEpochs
    manifest: str
    rank: int = 0

    @property
    def hash(self) -> str:
        """Return 16 hex digits over all that decides which items form an update."""
        plan = self.epochs
        limits, cost = plan.limits, plan.limits.cost
        facts = (
            "capped-1", self.mode, limits.cap, limits.most, cost.quadratic_s, cost.joint_tokens,
            plan.seed, plan.world, plan.accumulation, plan.drop_tail, plan.worst_first,
            self.manifest, *([plan.crop_s] if plan.crop_s else []),
        )  # fmt: skip
        digest = sha256(repr(facts).encode())
        for array in (plan.sizes, plan.buckets.ends):
            digest.update(np.ascontiguousarray(array, np.float64).tobytes())
        return digest.hexdigest()[:16]

    def place(self, update: int) -> tuple[int, slice]:
        """Return the epoch of an update, and its batches of all ranks, step by step."""
        number, inside = divmod(update, self.epochs.updates)
        size = self.epochs.accumulation * self.epochs.world
        return number, slice(inside * size, (inside + 1) * size)

    def micro_batches(self, update: int) -> list[MicroBatch]:
        """Return the micro-batches of an update for this rank."""
        number, part = self.place(update)
        epoch = self.epochs.epoch(number)
        own = range(part.start + self.rank, part.stop, self.epochs.world)
        return [_micro_batch(epoch, number, batch=batch) for batch in own]

    def update_size(self, update: int) -> UpdateSize:
        """Return exactly what an update adds to each counter, over all ranks."""
        number, part = self.place(update)
        epoch = self.epochs.epoch(number)
        counts = epoch.counts[part]
        if self.epochs.crop_s:
            seconds = float((epoch.shapes[part, 0] * counts).sum())
        else:
            seconds = sum(
                float(self.epochs.sizes[epoch.items[first : first + count], 0].sum())
                for first, count in zip(epoch.first[part], counts, strict=True)
            )
        used = int((counts > 0).sum())
        return UpdateSize(
            used, int(counts.sum()), audio_seconds=round(seconds, 9), epochs=1 / self.epochs.updates
        )

    @property
    def mean_size(self) -> UpdateSize:
        """Return what an update of epoch 0 adds on average."""
        return _mean_size(self)


def _micro_batch(epoch: Epoch, number: int, *, batch: int) -> MicroBatch:
    count, first = int(epoch.counts[batch]), int(epoch.first[batch])
    if not count:
        return MicroBatch(())
    items = epoch.items[first : first + count].tolist()
    draws = tuple(ItemDraw(number, index) for index in items)
    return MicroBatch(draws, tuple(epoch.shapes[batch].tolist()))


@lru_cache(maxsize=4)
def _mean_size(plan: CappedPlan) -> UpdateSize:
    epochs = plan.epochs
    epoch, updates = epochs.epoch(0), epochs.updates
    kept_s = epochs.sizes[epoch.items, 0].sum() - epochs.sizes[epoch.dropped, 0].sum()
    if epochs.crop_s:
        kept_s = (epoch.shapes[:, 0] * epoch.counts).sum()
    used = int((epoch.counts > 0).sum())
    return UpdateSize(
        used / updates,
        int(epoch.counts.sum()) / updates,
        audio_seconds=float(kept_s) / updates,
        epochs=1 / updates,
    )
