"""Mode `exact` for items of many sizes: an update is the same data on any device.

Letters: N items, D sizes (seconds, or seconds and tokens). Items come from the stream of `plan.py`: epochs,
each a permutation keyed by (seed, epoch). Measured along it in items or in seconds, update k is
what lies between k and k + 1 times its size. With a pool of P updates, their items are drawn
together, sorted by length, and cut into P updates, which are shuffled; pieces of one utterance are kept
apart (`apart.py`). All of that is independent of hardware; only the packing of an update's items depends on the device and the other ranks.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256

import numpy as np

from engine.batching.apart import apart
from engine.batching.closing import Cost
from engine.batching.edges import snapped, whole_hops
from engine.batching.items import ItemDraw, MicroBatch
from engine.batching.packing import Packed, pack
from engine.batching.plan import epoch_order
from engine.config.counters import UpdateSize
from engine.item_random import item_generator

_MEASURED_UPDATES = 32
_PER_SECOND = 1_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Device:
    """The limits of a device: they influence packing, never the data of an update.

    Attributes:
        cost: cost of a padded shape.
        cap: maximum cost of a micro-batch.
        most: maximum items of a micro-batch.
        edges: for each of the D sizes, the values that items are padded to, increasing.
        rank: which of the `world` devices this is.
        world: number of devices.
    """

    cost: Cost
    cap: float
    most: int
    edges: tuple[np.ndarray, ...]
    rank: int = 0
    world: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class ExactPlan:
    """Every update holds `amount` items, or items of about `amount` seconds.

    Attributes:
        sizes: (N, D) sizes of the items.
        amount: items of an update, or seconds of audio of it.
        by_seconds: whether `amount` is in seconds.
        pool_updates: P, number of updates whose items are pooled and sorted by length.
        seed: seed of the permutations.
        manifest: hash of the dataset's content, so that a resume detects changed files.
        worst_first: whether update 0 is swapped with the update of the longest item or crop.
        device: how an update is packed.
        crop_s: items of an update are cut to the shortest of them, in multiples of this; 0.0: padded.
        groups: (N,) int64, equal for items that should not meet in one update of a pool; None: none.
    """

    sizes: np.ndarray
    amount: float
    by_seconds: bool
    pool_updates: int
    seed: int
    manifest: str
    worst_first: bool
    device: Device
    crop_s: float = 0.0
    groups: np.ndarray | None = None

    @property
    def hash(self) -> str:
        """Return 16 hex digits over all that decides which items form an update."""
        unit = "seconds" if self.by_seconds else "items"
        first = "worst-first" if self.worst_first else "as-drawn"
        text = (
            f"exact-1 {len(self.sizes)} {self.amount:.17g} {unit} {self.pool_updates} {self.seed} "
            f"{first} {self.manifest} {f'crop {self.crop_s:.17g} ' if self.crop_s else ''}"
        )
        durations = np.ascontiguousarray(self.sizes[:, 0], np.float64).tobytes()
        digest = sha256(text.encode() + durations)
        if self.groups is not None and self.pool_updates > 1:
            digest.update(b"apart-1" + np.ascontiguousarray(self.groups, np.int64).tobytes())
        return digest.hexdigest()[:16]

    def update_items(self, update: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the epochs and the indices of an update's items, counted from 0."""
        if self.worst_first:
            worst = _worst_update(self)
            update = {0: worst, worst: 0}.get(update, update)
        return _items(self, update)

    def packed(self, update: int) -> PackedUpdate:
        """Return an update's items, packed for every rank."""
        return _packed(self, update)

    def micro_batches(self, update: int) -> list[MicroBatch]:
        """Return the micro-batches of an update for this rank, the most expensive first."""
        packed = _packed(self, update)
        return [packed.micro_batch(batch) for batch in packed.ranks[self.device.rank]]

    def update_size(self, update: int) -> UpdateSize:
        """Return exactly what an update adds to each counter, over all ranks."""
        return _packed(self, update).size

    @property
    def mean_size(self) -> UpdateSize:
        """Return what an update adds on average; micro-batches and crops as in 32 updates of epoch 0."""
        return _mean_size(self)

    @property
    def quantum(self) -> int:
        """Return the size of an update in the unit that the stream is measured in."""
        return round(self.amount * _PER_SECOND) if self.by_seconds else round(self.amount)

    @property
    def updates_per_epoch(self) -> float:
        """Return how many updates one pass over the items makes."""
        return float(_stream(self, 0).total / self.quantum)

    @property
    def epoch_share(self) -> float:
        """Return the share of a pass over the items that an update is."""
        return self.quantum / _stream(self, 0).total


@dataclass(frozen=True, slots=True, eq=False)
class PackedUpdate:
    """The items of an update, sorted for packing, and the micro-batches of each rank.

    Attributes:
        epochs: (G,) epoch of each item.
        items: (G,) its index.
        shapes: (G, D) what it is padded to if it is the first of its micro-batch.
        ranks: micro-batches of each rank.
        size: what the update adds to each counter.
    """

    epochs: np.ndarray
    items: np.ndarray
    shapes: np.ndarray
    ranks: list[list[Packed]]
    size: UpdateSize

    def shape(self, batch: Packed) -> tuple[float, ...]:
        """Return what the items of a micro-batch are padded to; of an empty one, nothing."""
        if not batch.count:
            return ()
        inside = self.shapes[batch.first : batch.first + batch.count]
        return tuple(inside.max(axis=0).tolist())

    def micro_batch(self, batch: Packed) -> MicroBatch:
        """Return the draws of a micro-batch with their shape."""
        part = slice(batch.first, batch.first + batch.count)
        draws = map(ItemDraw, self.epochs[part].tolist(), self.items[part].tolist())
        return MicroBatch(tuple(draws), self.shape(batch))


@dataclass(frozen=True, slots=True, eq=False)
class _Stream:
    """One epoch: (N,) items in order, (N,) where each begins, and where the last one ends."""

    order: np.ndarray
    begins: np.ndarray
    total: int


@lru_cache(maxsize=4)
def _stream(plan: ExactPlan, epoch: int) -> _Stream:
    order = epoch_order(plan.seed, epoch, num_items=len(plan.sizes))
    if not plan.by_seconds:
        return _Stream(order, np.arange(len(order)), total=len(order))
    lengths = np.rint(plan.sizes[order, 0] * _PER_SECOND).astype(np.int64)
    ends = np.cumsum(lengths)
    return _Stream(order, ends - lengths, total=int(ends[-1]))


def _items(plan: ExactPlan, update: int) -> tuple[np.ndarray, np.ndarray]:
    if plan.pool_updates == 1:
        return _between(plan, update * plan.quantum, high=(update + 1) * plan.quantum)
    number, place = divmod(update, plan.pool_updates)
    return _pool(plan, number)[place]


def _between(plan: ExactPlan, low: int, *, high: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the items that begin in a part of the stream, which may span epochs."""
    total = _stream(plan, 0).total
    epochs, items = [], []
    for epoch in range(low // total, (high - 1) // total + 1):
        stream = _stream(plan, epoch)
        first, last = np.searchsorted(stream.begins, [low - epoch * total, high - epoch * total])
        items.append(stream.order[first:last])
        epochs.append(np.full(last - first, epoch))
    return np.concatenate(epochs), np.concatenate(items)


@lru_cache(maxsize=4)
def _pool(plan: ExactPlan, number: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the updates of a pool: each of items of like length, in random order."""
    span = plan.pool_updates * plan.quantum
    epochs, items = _between(plan, number * span, high=(number + 1) * span)
    falling = np.argsort(-plan.sizes[items, 0], kind="stable")
    epochs, items = epochs[falling], items[falling]
    if plan.by_seconds:
        ends = np.cumsum(plan.sizes[items, 0])
        middles = ends - plan.sizes[items, 0] / 2
        shares = np.arange(1, plan.pool_updates) * (ends[-1] / plan.pool_updates)
        borders = np.searchsorted(middles, shares)
    else:
        borders = np.arange(1, plan.pool_updates) * plan.quantum
    updates = np.split(np.arange(len(items)), borders)
    if plan.groups is not None:
        apart(updates, plan.sizes[items, 0], group_G=plan.groups[items])
    parts = [(epochs[update], items[update]) for update in updates]
    order = item_generator(plan.seed, number, 0, "pool").permutation(len(parts))
    return [parts[place] for place in order]


@lru_cache(maxsize=4)
def _worst_update(plan: ExactPlan) -> int:
    """Return the update of epoch 0 that holds the longest item (the first of several).

    Where items are cropped, it is the one with the longest crop; in a pool, whose updates are of items
    of like length, the longest item stands for that.
    """
    stream = _stream(plan, 0)
    if plan.crop_s and plan.pool_updates == 1:
        updates = stream.begins // plan.quantum
        first = np.flatnonzero(np.diff(updates, prepend=-1))
        crops_s = np.minimum.reduceat(plan.sizes[stream.order, 0], first)
        return int(updates[first[np.argmax(crops_s)]])
    longest = int(np.argmax(plan.sizes[:, 0]))
    place = int(np.flatnonzero(stream.order == longest)[0])
    update = int(stream.begins[place] // plan.quantum)
    if plan.pool_updates == 1:
        return update
    number = update // plan.pool_updates
    for place, (epochs, items) in enumerate(_pool(plan, number)):
        if bool(((items == longest) & (epochs == 0)).any()):
            return number * plan.pool_updates + place
    raise AssertionError(f"item {longest} is missing from pool {number}")


@lru_cache(maxsize=8)
def _packed(plan: ExactPlan, update: int) -> PackedUpdate:
    epochs, items = plan.update_items(update)
    sizes, device = plan.sizes[items], plan.device
    shapes = np.stack(
        [edges[snapped(sizes[:, i], edges)] for i, edges in enumerate(device.edges)], axis=1
    )
    if plan.crop_s and len(items):
        # Of the whole update: what an item is trained on must not depend on how it is packed.
        shapes[:, 0] = whole_hops(sizes[:, 0].min(), plan.crop_s)
        sizes = shapes
    falling = np.lexsort((*(-shapes.T[::-1]),))
    costs = device.cost.of(shapes[falling]).tolist()
    ranks = pack(costs, cap=device.cap, most=device.most, world=device.world)
    used = sum(batch.count > 0 for batches in ranks for batch in batches)
    size = UpdateSize(
        used, len(items), audio_seconds=round(float(sizes[:, 0].sum()), 9), epochs=plan.epoch_share
    )
    return PackedUpdate(
        epochs[falling], items[falling], shapes=shapes[falling], ranks=ranks, size=size
    )


@lru_cache(maxsize=4)
def _mean_size(plan: ExactPlan) -> UpdateSize:
    mean_s = float(plan.sizes[:, 0].mean())
    whole = max(1, int(plan.updates_per_epoch))
    picked = np.unique(np.linspace(0, whole - 1, min(whole, _MEASURED_UPDATES)).astype(int))
    measured = [_packed(plan, int(update)).size for update in picked]
    micro_batches = np.mean([size.micro_batches for size in measured])
    items, seconds = plan.amount, plan.amount * mean_s
    if plan.by_seconds:
        items, seconds = plan.amount / mean_s, plan.amount
    if plan.crop_s:
        each_s = sum(size.audio_seconds for size in measured) / sum(size.items for size in measured)
        seconds = items * each_s
    return UpdateSize(float(micro_batches), items, audio_seconds=seconds, epochs=plan.epoch_share)
