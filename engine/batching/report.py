"""What a plan comes to, before a run: batches, padding, global batch, what is left out. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isfinite

import numpy as np

from engine.batching.buckets import dense_outliers
from engine.batching.capped_plan import CappedPlan
from engine.batching.exact import ExactPlan
from engine.batching.plan import FixedPlan, Plan

_LOOKED_AT = 256
_BARS = 12
_EXAMPLES = 5
_SLACK = 1 + 1e-9


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Items that are not trained: why, how many, and the first of them by number."""

    reason: str
    count: int
    examples: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PlanReport:
    """A plan in numbers, of its first epoch; shares lie between 0 and 1.

    Attributes:
        mode: name of the mode.
        hash: name of the plan.
        world: devices that train together.
        num_items: items of the dataset.
        audio_s: their audio.
        updates_per_epoch: updates of one pass over the items.
        updates_seen: how many updates the other numbers were counted on.
        micro_batches: how many those were packed into, over all devices.
        empty: how many of these have no items.
        over_cap: how many cost more than the cap: single items that alone do.
        largest: the highest cost of a micro-batch, in padded seconds.
        shapes: different padded shapes of all those.
        padding_share: padded seconds that hold no audio.
        joint_padding_share: padded seconds x tokens that hold none; None without tokens.
        idle_share: time that devices wait for the busiest one of an update, by cost.
        mean_items: items of an update, over all devices, on average.
        mean_s: seconds of audio of an update.
        mean_tokens: tokens of an update; None without tokens.
        histogram: (lowest, highest, micro-batches with so many items).
        left_out: items that are not trained.
        notes: what a person should know.
    """

    mode: str
    hash: str
    world: int
    num_items: int
    audio_s: float
    updates_per_epoch: float
    updates_seen: int
    micro_batches: int
    empty: int
    over_cap: int
    largest: float
    shapes: int
    padding_share: float
    joint_padding_share: float | None
    idle_share: float
    mean_items: float
    mean_s: float
    mean_tokens: float | None
    histogram: tuple[tuple[int, int, int], ...]
    left_out: tuple[LeftOut, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Table:
    """Micro-batches, row by row: (B,) update, rank, items, cost; (B, D) padded and real sizes."""

    update: np.ndarray
    rank: np.ndarray
    counts: np.ndarray
    costs: np.ndarray
    shapes: np.ndarray
    real: np.ndarray
    real_joint: np.ndarray
    world: int
    cap: float
    most: int


def report_on(plan: Plan, sizes: np.ndarray) -> PlanReport:
    """Count what the first epoch of a plan does; of mode exact, its first 256 updates at most.

    Args:
        plan: what `open_plan` returned.
        sizes: (N, D) sizes of the items, those the plan was opened with.
    """
    if isinstance(plan, ExactPlan):
        table, per_epoch, mode = _of_exact(plan), plan.updates_per_epoch, "exact"
    elif isinstance(plan, CappedPlan):
        table, per_epoch, mode = _of_capped(plan), float(plan.epochs.updates), plan.mode
    else:
        assert isinstance(plan, FixedPlan), plan
        table, mode = _of_fixed(plan, sizes), "exact"
        per_epoch = plan.num_items / plan.items_per_update
    seen = len(np.unique(table.update))
    padded = float((table.counts * table.shapes[:, 0]).sum())
    tokens = sizes.shape[1] > 1
    joint = float((table.counts * table.shapes.prod(axis=1)).sum())
    return PlanReport(
        mode=mode,
        hash=plan.hash,
        world=table.world,
        num_items=len(sizes),
        audio_s=float(sizes[:, 0].sum()),
        updates_per_epoch=per_epoch,
        updates_seen=seen,
        micro_batches=len(table.counts),
        empty=int((table.counts == 0).sum()),
        over_cap=int((table.costs > table.cap * _SLACK).sum()),
        largest=float(table.costs.max()),
        shapes=len(np.unique(table.shapes[table.counts > 0], axis=0)),
        padding_share=1 - float(table.real[:, 0].sum()) / padded,
        joint_padding_share=1 - float(table.real_joint.sum()) / max(joint, 1e-9)
        if tokens
        else None,
        idle_share=_idle_share(table),
        mean_items=float(table.counts.sum()) / seen,
        mean_s=float(table.real[:, 0].sum()) / seen,
        mean_tokens=float(table.real[:, 1].sum()) / seen if tokens else None,
        histogram=_histogram(table.counts),
        left_out=_left_out(plan),
        notes=_notes(table, sizes),
    )


def _of_exact(plan: ExactPlan) -> _Table:
    updates = range(max(1, min(_LOOKED_AT, int(plan.updates_per_epoch))))
    rows = []
    for update in updates:
        packed = plan.packed(update)
        for rank, batches in enumerate(packed.ranks):
            for batch in batches:
                inside = plan.sizes[packed.items[batch.first : batch.first + batch.count]]
                shape = packed.shape(batch) or (0.0,) * plan.sizes.shape[1]
                joint = float(inside.prod(axis=1).sum())
                rows.append(
                    (update, rank, batch.count, batch.cost, joint, *shape, *inside.sum(axis=0))
                )
    found = np.array(rows, float)
    last = 5 + plan.sizes.shape[1]
    device = plan.device
    return _Table(
        found[:, 0], found[:, 1], found[:, 2].astype(int), found[:, 3], found[:, 5:last],
        found[:, last:], found[:, 4], device.world, device.cap, device.most,
    )  # fmt: skip


def _of_capped(plan: CappedPlan) -> _Table:
    epochs = plan.epochs
    epoch = epochs.epoch(0)
    row = np.arange(len(epoch.counts))
    sums = np.zeros((len(epoch.items) + 1, epochs.sizes.shape[1] + 1))
    sizes = epochs.sizes[epoch.items]
    np.cumsum(np.column_stack([sizes, sizes.prod(axis=1)]), axis=0, out=sums[1:])
    real = sums[epoch.first + epoch.counts] - sums[epoch.first]
    limits = epochs.limits
    return _Table(
        row // (epochs.world * epochs.accumulation), row % epochs.world, epoch.counts,
        limits.cost.of(epoch.shapes) * epoch.counts, epoch.shapes, real[:, :-1], real[:, -1],
        epochs.world, limits.cap, max(limits.most),
    )  # fmt: skip


def _of_fixed(plan: FixedPlan, sizes: np.ndarray) -> _Table:
    """Tabulate one update: all are alike but for which items they hold."""
    ranks = [replace(plan, rank=rank).micro_batches(0) for rank in range(plan.world)]
    per_rank = len(ranks[0])
    counts = [len(batch) for batches in ranks for batch in batches]
    found = np.array(counts)
    shapes = np.repeat(sizes[:1], len(found), axis=0)
    return _Table(
        np.zeros(len(found)), np.repeat(np.arange(plan.world), per_rank), found,
        found * sizes[0, 0], shapes, shapes * found[:, None], shapes.prod(axis=1) * found,
        plan.world, np.inf, plan.micro_batch,
    )  # fmt: skip


def _idle_share(table: _Table) -> float:
    """Return which share of all devices' time passes in waiting for the busiest of each update."""
    _, update = np.unique(table.update, return_inverse=True)
    work = np.zeros((int(update.max()) + 1, table.world))
    np.add.at(work, (update, table.rank.astype(int)), table.costs)
    busiest = float(work.max(axis=1).sum()) * table.world
    return 1 - float(work.sum()) / busiest if busiest else 0.0


def _histogram(counts: np.ndarray) -> tuple[tuple[int, int, int], ...]:
    """Return at most 12 bars of equal width: lowest and highest count, and how often."""
    low, high = int(counts.min()), int(counts.max())
    width = -(-(high - low + 1) // _BARS)
    bars = np.bincount((counts - low) // width)
    return tuple(
        (low + bar * width, min(high, low + (bar + 1) * width - 1), int(number))
        for bar, number in enumerate(bars)
    )


def plan_warnings(plan: Plan, sizes: np.ndarray) -> list[str]:
    """Return what a person should know when a run starts: items left out, too long, or odd."""
    found = [
        f"batch plan: {out.count} items are not trained, {out.reason} (the first is item "
        f"{out.examples[0]})"
        for out in _left_out(plan)
    ]
    cap, costs = np.inf, np.zeros(0)
    if isinstance(plan, ExactPlan):
        cap, costs = plan.device.cap, plan.device.cost.of(sizes)
    elif isinstance(plan, CappedPlan):
        limits, trained = plan.epochs.limits, plan.epochs.buckets.of_item >= 0
        cap, costs = limits.cap, limits.cost.of(sizes[trained])
    over = int((costs > cap * _SLACK).sum())
    if over:
        found.append(
            f"batch plan: {over} items alone cost more than batch.cap_s = {cap:g}; each is a "
            "micro-batch of its own and may not fit the memory"
        )
    return [*found, *(f"batch plan: {note}" for note in _odd(sizes))]


def _left_out(plan: Plan) -> tuple[LeftOut, ...]:
    if not isinstance(plan, CappedPlan):
        return ()
    found = {
        "fits no bucket": np.flatnonzero(plan.epochs.buckets.of_item < 0),
        "end of the epoch (batch.tail = drop)": np.sort(plan.epochs.epoch(0).dropped),
    }
    return tuple(
        LeftOut(reason, len(items), tuple(items[:_EXAMPLES].tolist()))
        for reason, items in found.items()
        if len(items)
    )


def _notes(table: _Table, sizes: np.ndarray) -> tuple[str, ...]:
    notes = []
    over = int((table.costs > table.cap * _SLACK).sum())
    if over:
        notes.append(f"{over} items alone cost more than batch.cap_s = {table.cap:g}")
    full = float((table.counts == table.most).mean())
    if isfinite(table.cap) and full > 0.5:
        notes.append(
            f"{full:.0%} of the micro-batches end at batch.micro_batch = {table.most}, not at "
            "batch.cap_s: raise it to use the cap"
        )
    return (*notes, *_odd(sizes))


def _odd(sizes: np.ndarray) -> list[str]:
    """Say which items have more or less text than their audio can hold."""
    odd = dense_outliers(sizes)
    if not len(odd):
        return []
    return [
        f"{len(odd)} items have a number of tokens per second more than 4 standard deviations from "
        f"the mean, the first is item {int(odd[0])}: is their text right?"
    ]
