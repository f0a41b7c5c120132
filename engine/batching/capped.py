"""The seven modes whose batches fill a device up to a limit: a plan of each epoch.

Letters: N items, B batches of all ranks, D sizes. A step is one batch for each rank, all of the same
bucket; an update is `accumulation` steps. The number of updates is the same in every epoch, so that
update k is update k mod U of epoch k / U and needs no walk from the start: an epoch whose order gives
fewer batches than epoch 0 has some halved, one that gives more has some packed more tightly (or,
with tail = drop, leaves the last ones out).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from engine.batching.buckets import Buckets
from engine.batching.closing import Cost, batch_shapes, close_batches, halved
from engine.batching.edges import whole_hops
from engine.item_random import item_generator

# (fraction of a bucket to sort, window in batches), tried in order until the batches are few enough.
_TIGHTER = ((1 / 16, 4), (1 / 4, 4), (1.0, 4), (1.0, 16), (1.0, 256), (1.0, 2**40))


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a batch.

    Attributes:
        cost: cost of a padded shape.
        cap: maximum cost of a batch; infinite if only the number of items is limited.
        most: (K,) maximum items of a batch from each bucket.
        full: whether smaller batches are dropped with the tail.
        padded_to_ends: whether items are padded to the ends of their bucket, not to the longest.
    """

    cost: Cost
    cap: float
    most: tuple[int, ...]
    full: bool = False
    padded_to_ends: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Epoch:
    """The batches of one epoch, in the order they are trained: (update, step, rank).

    Attributes:
        items: items, batch after batch.
        first: (B,) where in `items` each batch starts.
        counts: (B,) items of each batch; 0 if a rank has no items in a step.
        shapes: (B, D) what the items of a batch are padded to.
        dropped: items that this epoch skips, according to `batch.tail`.
    """

    items: np.ndarray
    first: np.ndarray
    counts: np.ndarray
    shapes: np.ndarray
    dropped: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class CappedEpochs:
    """Plans epochs, as pure functions of these attributes.

    Attributes:
        sizes: (N, D) sizes of the items.
        buckets: which item is in which bucket; items in none are never trained.
        limits: what a batch may hold.
        seed: seed of the order.
        world: devices, each of which takes one batch of a step.
        accumulation: steps of an update.
        drop_tail: whether items that do not fill a step are dropped, rather than spread.
        worst_first: whether the run begins with its most expensive batch.
        crop_s: items of a batch are cut to its shortest, in multiples of this; 0.0: they are padded.
    """

    sizes: np.ndarray
    buckets: Buckets
    limits: Limits
    seed: int
    world: int
    accumulation: int
    drop_tail: bool
    worst_first: bool
    crop_s: float = 0.0

    @property
    def steps(self) -> tuple[int, ...]:
        """Return how many steps each bucket has in every epoch."""
        return _steps(self)

    @property
    def updates(self) -> int:
        """Return how many updates each epoch has."""
        return sum(self.steps) // self.accumulation

    def epoch(self, number: int) -> Epoch:
        """Return the batches of an epoch, from 0."""
        return _epoch(self, number)


@lru_cache(maxsize=4)
def _steps(plan: CappedEpochs) -> tuple[int, ...]:
    lanes = _closed(plan, 0)
    steps = []
    for bucket in range(plan.buckets.num_buckets):
        num_items = int(lanes.borders[bucket + 1] - lanes.borders[bucket])
        num_batches = len(lanes.starts_of(bucket))
        if plan.drop_tail and plan.limits.full:
            num_batches = num_items // plan.limits.most[bucket]
        rounded = num_batches // plan.world if plan.drop_tail else -(-num_batches // plan.world)
        steps.append(max(rounded, 1) if num_items else 0)
    if not plan.drop_tail:
        largest = np.argsort([-count for count in steps], kind="stable")
        for turn in range(-sum(steps) % plan.accumulation):
            steps[largest[turn % len(largest)]] += 1
    return tuple(steps)


@dataclass(frozen=True, slots=True, eq=False)
class _Lanes:
    """Items in the order of an epoch, bucket after bucket, cut into batches."""

    items: np.ndarray
    borders: np.ndarray
    starts: np.ndarray

    def starts_of(self, bucket: int) -> np.ndarray:
        low, high = np.searchsorted(self.starts, self.borders[bucket : bucket + 2])
        return self.starts[low:high]


@lru_cache(maxsize=2)
def _closed(plan: CappedEpochs, number: int) -> _Lanes:
    """Shuffle the items of each bucket and close batches in that order."""
    items, borders = _shuffled(plan, number)
    return _Lanes(items, borders, starts=_starts(plan, items, borders=borders))


def _shuffled(plan: CappedEpochs, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the items that are in a bucket, bucket after bucket, and where each one begins.

    Sorts (bucket, random number, item), packed into one integer each: four times faster than a
    permutation that is sorted by bucket.
    """
    of_item = plan.buckets.of_item
    num_buckets = plan.buckets.num_buckets
    generator = item_generator(plan.seed, number, 0, "order")
    item_bits = max(1, (len(of_item) - 1).bit_length())
    random_bits = 63 - item_bits - num_buckets.bit_length()
    assert random_bits >= 20, (len(of_item), num_buckets)
    keys = generator.integers(2**random_bits, size=len(of_item), dtype=np.int64)
    keys |= of_item.astype(np.int64) << random_bits
    keys = (keys << item_bits) | np.arange(len(of_item))
    if int(of_item.min()) < 0:
        keys = keys[of_item >= 0]
    keys.sort()
    first = np.arange(num_buckets + 1, dtype=np.int64) << (random_bits + item_bits)
    return keys & (2**item_bits - 1), np.searchsorted(keys, first)


def _starts(plan: CappedEpochs, items: np.ndarray, *, borders: np.ndarray) -> np.ndarray:
    limits = plan.limits
    if np.isfinite(limits.cap):
        lanes = np.unique(borders[:-1][np.diff(borders) > 0])
        return close_batches(
            plan.sizes[items], lanes, cost=limits.cost, cap=limits.cap, most=limits.most[0]
        )
    ranges = [
        np.arange(low, high, most)
        for low, high, most in zip(borders[:-1], borders[1:], limits.most, strict=True)
    ]
    return np.concatenate(ranges)


@lru_cache(maxsize=2)
def _epoch(plan: CappedEpochs, number: int) -> Epoch:
    lanes = _closed(plan, number)
    items, all_starts = lanes.items.copy(), []
    for bucket, steps in enumerate(plan.steps):
        low, high = lanes.borders[bucket], lanes.borders[bucket + 1]
        starts = lanes.starts_of(bucket) - low
        if len(starts) < steps * plan.world:
            starts = halved(starts, high - low, extra=steps * plan.world - len(starts))
        elif len(starts) > steps * plan.world and not plan.drop_tail:
            items[low:high], starts = _tightened(
                plan, items[low:high], starts=starts, bucket=bucket
            )
        all_starts.append(starts + low)
    first = np.concatenate(all_starts)
    counts = np.diff(np.append(first, len(items)))
    shapes = batch_shapes(plan.sizes[items], first)
    if plan.limits.padded_to_ends:
        shapes = np.repeat(plan.buckets.ends, [len(starts) for starts in all_starts], axis=0)
    if plan.crop_s and len(first):
        shortest = np.minimum.reduceat(plan.sizes[items, 0], first)
        shapes = np.column_stack([whole_hops(shortest, plan.crop_s), shapes[:, 1:]])
    costs = plan.limits.cost.of(shapes) * counts
    grid = _in_order(
        plan, number, grid=_rounds(plan, costs, num_batches=[len(starts) for starts in all_starts])
    )
    chosen = grid.ravel()
    idle = chosen < 0
    return Epoch(
        items,
        first[chosen],
        counts=np.where(idle, 0, counts[chosen]),
        shapes=shapes[chosen],
        dropped=_left_out(items, first, counts=counts, chosen=chosen[~idle]),
    )


def _tightened(
    plan: CappedEpochs, items: np.ndarray, *, starts: np.ndarray, bucket: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the items of a bucket in an order that gives no more batches than its steps hold.

    Every epoch must have the number of steps of epoch 0, so that the position of an update is known
    without planning earlier epochs; but another shuffle may need more batches. Sorting by length
    wastes less padding and needs fewer batches, at the price of less random batches, so the smallest
    part of the bucket and the smallest windows that suffice are sorted. If even a full sort does not
    suffice, the batches of epoch 0 are used again, which are known to fit.
    """
    most = plan.steps[bucket] * plan.world
    limits = plan.limits
    for part, window in _TIGHTER:
        kept = starts[starts >= part * len(items)]
        end = int(kept[0]) if len(kept) else len(items)
        length = int(min(max(2, window * len(items) / len(starts)), len(items)))
        sizes = plan.sizes[items[:end]]
        order = np.lexsort((*(-sizes.T[::-1]), np.arange(end) // length))
        sorted_items = np.concatenate([items[:end][order], items[end:]])
        closed = close_batches(
            sizes[order],
            np.zeros(1, np.int64),
            cost=limits.cost,
            cap=limits.cap,
            most=limits.most[0],
        )
        if len(closed) + len(kept) <= most:
            both = np.concatenate([closed, kept])
            return sorted_items, halved(both, len(items), extra=most - len(both))
    first = _closed(plan, 0)
    low, high = first.borders[bucket], first.borders[bucket + 1]
    starts = first.starts_of(bucket) - low
    return first.items[low:high], halved(starts, len(items), extra=most - len(starts))


def _rounds(plan: CappedEpochs, costs: np.ndarray, *, num_batches: list[int]) -> np.ndarray:
    """Return (S, W) batches, each step from one bucket with similar costs; -1 for no batch."""
    rows, low = [np.zeros((0, plan.world), np.int64)], 0
    for steps, count in zip(plan.steps, num_batches, strict=True):
        kept = np.arange(low, low + min(count, steps * plan.world))
        kept = kept[np.argsort(-costs[kept], kind="stable")]
        row = np.full(steps * plan.world, -1)
        row[: len(kept)] = kept
        rows.append(row.reshape(steps, plan.world))
        low += count
    grid = np.concatenate(rows)
    if plan.worst_first:
        # The most expensive step is moved to the front by `_in_order`.
        worst = int(np.argmax(np.where(grid < 0, -1, costs[grid]).max(axis=1)))
        grid[[0, worst]] = grid[[worst, 0]]
    return grid


def _in_order(plan: CappedEpochs, number: int, *, grid: np.ndarray) -> np.ndarray:
    """Shuffle the steps, drop those that do not fill an update, and reverse every other one."""
    order = item_generator(plan.seed, number, 0, "steps").permutation(len(grid))
    if plan.worst_first and number == 0:
        place = int(np.flatnonzero(order == 0)[0])
        order[[0, place]] = order[[place, 0]]
    grid = grid[order[: plan.updates * plan.accumulation]]
    grid[1::2] = grid[1::2, ::-1].copy()
    return grid


def _left_out(
    items: np.ndarray, first: np.ndarray, *, counts: np.ndarray, chosen: np.ndarray
) -> np.ndarray:
    if len(chosen) == len(first):
        return np.zeros(0, np.int64)
    left = np.ones(len(first), bool)
    left[chosen] = False
    return np.asarray(items[np.repeat(left, counts)])
