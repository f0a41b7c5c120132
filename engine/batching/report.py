"""Statistics of a plan, before a run: batches, padding, global batch, skipped items. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from math import isfinite

import numpy as np

from engine.batching.buckets import dense_outliers
from engine.batching.capped_plan import CappedPlan
from engine.batching.exact import ExactPlan
from engine.batching.plan import FixedPlan, Plan
from engine.config.errors import counted

_LOOKED_AT = 256
_BARS = 12
_EXAMPLES = 5
_SLACK = 1 + 1e-9
_MUCH_CROPPED = 0.1


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Skipped items: why, how many, and the numbers of the first ones."""

    reason: str
    count: int
    examples: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PlanReport:
    """A plan in numbers, of its first epoch; shares lie between 0 and 1.

    Attributes:
        mode: name of the mode.
        hash: hash of the plan.
        world: number of devices.
        num_items: number of items of the dataset.
        audio_s: their total duration.
        updates_per_epoch: updates of one pass over the items.
        updates_seen: number of updates the following values are computed from.
        micro_batches: number of micro-batches of these updates, over all devices.
        empty: number of micro-batches without items.
        over_cap: number of micro-batches above the cap: single items that exceed it alone.
        largest: maximum cost of a micro-batch, in padded seconds.
        shapes: number of distinct padded shapes.
        padding_share: fraction of padded seconds without audio.
        cropped_share: fraction of the audio that is cut off, since the items of an update are cropped.
        joint_padding_share: the same of padded seconds x tokens; None without tokens.
        idle_share: fraction of time that devices wait for the busiest one of an update, by cost.
        mean_items: mean number of items per update, over all devices.
        mean_s: mean seconds of audio per update.
        mean_tokens: mean number of tokens per update; None without tokens.
        histogram: (minimum, maximum, number of micro-batches with that many items).
        left_out: skipped items.
        notes: warnings and hints.
        recommended: what is recommended for the size of an update, and where this one stands; may be
            empty.
        partial: what becomes of batches that the end of an epoch leaves incomplete.
        length: how long the run is in all counters; empty where it is not asked for.
        size: what an update adds to the counters on average, by their names.
        warnings: about the length, the learning rate and the like.
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
    recommended: str = ""
    cropped_share: float = 0.0
    partial: str = ""
    length: str = ""
    size: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


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
    """Return statistics of the first epoch of a plan; in mode exact, of whole pools of about 256 updates at most.

    Args:
        plan: what `open_plan` returned.
        sizes: (N, D) sizes of the items, those the plan was opened with.
    """
    table, per_epoch, mode = _tabulated(plan, sizes)
    seen = len(np.unique(table.update))
    padded = float((table.counts * table.shapes[:, 0]).sum())
    real = float(table.real[:, 0].sum())
    cropped_share = max(0.0, 1 - padded / real)
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
        padding_share=max(0.0, 1 - real / padded),
        joint_padding_share=1 - float(table.real_joint.sum()) / max(joint, 1e-9)
        if tokens
        else None,
        idle_share=_idle_share(table),
        mean_items=float(table.counts.sum()) / seen,
        mean_s=min(real, padded) / seen,
        mean_tokens=float(table.real[:, 1].sum()) / seen if tokens else None,
        histogram=_histogram(table.counts),
        left_out=_left_out(plan),
        notes=(*_notes(table, sizes), *_crops(cropped_share, plan)),
        cropped_share=cropped_share,
        partial=_partial(plan),
        size=asdict(plan.mean_size),
    )


def micro_batches(plan: Plan, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (B,) items and (B, D) padded sizes of the micro-batches of an epoch, of all devices.

    Args:
        plan: what `open_plan` returned.
        sizes: (N, D) sizes of the items.
    """
    table, _, _ = _tabulated(plan, sizes)
    filled = table.counts > 0
    return table.counts[filled], table.shapes[filled]


def _tabulated(plan: Plan, sizes: np.ndarray) -> tuple[_Table, float, str]:
    """Return the table of a plan, its updates per epoch, and its mode."""
    if isinstance(plan, ExactPlan):
        return _of_exact(plan), plan.updates_per_epoch, "exact"
    if isinstance(plan, CappedPlan):
        return _of_capped(plan), float(plan.epochs.updates), plan.mode
    assert isinstance(plan, FixedPlan), plan
    return _of_fixed(plan, sizes), plan.num_items / plan.items_per_update, "exact"


def _of_exact(plan: ExactPlan) -> _Table:
    rows = []
    for update in range(_num_looked_at(plan)):
        packed = plan.packed(update)
        for rank, batches in enumerate(packed.ranks):
            for batch in batches:
                inside = plan.sizes[packed.items[batch.first : batch.first + batch.count]]
                shape = packed.shape(batch) or (0.0,) * plan.sizes.shape[1]
                joint = float(inside.prod(axis=1).sum())
                rows.append(
                    (update, rank, batch.count, batch.cost, joint, *shape, *inside.sum(axis=0))
                )
    values = np.array(rows, float)
    last = 5 + plan.sizes.shape[1]
    device = plan.device
    return _Table(
        values[:, 0], values[:, 1], counts=values[:, 2].astype(int), costs=values[:, 3], shapes=values[:, 5:last],
        real=values[:, last:], real_joint=values[:, 4], world=device.world, cap=device.cap, most=device.most,
    )  # fmt: skip


def _num_looked_at(plan: ExactPlan) -> int:
    """Return how many updates stand for a plan: whole pools, since one update of a pool is of like items."""
    pool = plan.pool_updates
    most = max(1, _LOOKED_AT // pool)
    return pool * max(1, min(most, round(plan.updates_per_epoch / pool)))


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
        row // (epochs.world * epochs.accumulation), row % epochs.world, counts=epoch.counts,
        costs=limits.cost.of(epoch.shapes) * epoch.counts, shapes=epoch.shapes, real=real[:, :-1], real_joint=real[:, -1],
        world=epochs.world, cap=limits.cap, most=max(limits.most),
    )  # fmt: skip


def _of_fixed(plan: FixedPlan, sizes: np.ndarray) -> _Table:
    """Tabulate one update: all updates have the same layout."""
    ranks = [replace(plan, rank=rank).micro_batches(0) for rank in range(plan.world)]
    per_rank = len(ranks[0])
    counts = np.array([len(batch) for batches in ranks for batch in batches])
    shapes = np.repeat(sizes[:1], len(counts), axis=0)
    return _Table(
        np.zeros(len(counts)), np.repeat(np.arange(plan.world), per_rank), counts=counts,
        costs=counts * sizes[0, 0], shapes=shapes, real=shapes * counts[:, None], real_joint=shapes.prod(axis=1) * counts,
        world=plan.world, cap=np.inf, most=plan.micro_batch,
    )  # fmt: skip


def _idle_share(table: _Table) -> float:
    """Return the fraction of device time spent waiting for the busiest device of each update."""
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
    """Return the warnings at the start of a run: skipped, overlong or suspicious items."""
    warnings = [
        f"batch plan: skipped items: {out.count} ({out.reason}; first: item {out.examples[0]})"
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
        warnings.append(
            f"batch plan: single items above batch.cap_s = {cap:g}: {over}; each forms a micro-batch "
            "of its own and may not fit into memory"
        )
    notes = [
        *_odd(sizes),
        *(_crops(report_on(plan, sizes).cropped_share, plan) if _is_cropped(plan) else []),
    ]
    return [*warnings, *(f"batch plan: {note}" for note in notes)]


def _partial(plan: Plan) -> str:
    if not isinstance(plan, CappedPlan):
        return "none: updates run on from one epoch into the next, and every item is used once an epoch"
    if plan.epochs.drop_tail:
        dropped = len(plan.epochs.epoch(0).dropped)
        return f"{counted(dropped, 'item')} dropped at the end of an epoch (batch.tail = drop)"
    return "left-over items of an epoch form smaller batches (batch.tail = split); none is dropped"


def _left_out(plan: Plan) -> tuple[LeftOut, ...]:
    if not isinstance(plan, CappedPlan):
        return ()
    items_by_reason = {
        "no bucket is large enough": np.flatnonzero(plan.epochs.buckets.of_item < 0),
        "dropped at the end of the epoch (batch.tail = drop)": np.sort(
            plan.epochs.epoch(0).dropped
        ),
    }
    return tuple(
        LeftOut(reason, len(items), tuple(items[:_EXAMPLES].tolist()))
        for reason, items in items_by_reason.items()
        if len(items)
    )


def _notes(table: _Table, sizes: np.ndarray) -> tuple[str, ...]:
    notes = []
    over = int((table.costs > table.cap * _SLACK).sum())
    if over:
        notes.append(f"single items above batch.cap_s = {table.cap:g}: {over}")
    full = float((table.counts == table.most).mean())
    if isfinite(table.cap) and full > 0.5:
        notes.append(
            f"{full:.0%} of the micro-batches are limited by batch.micro_batch = {table.most}, not by "
            "batch.cap_s; raise batch.micro_batch to use the cap"
        )
    return (*notes, *_odd(sizes))


def _is_cropped(plan: Plan) -> bool:
    if isinstance(plan, CappedPlan):
        return plan.epochs.crop_s > 0
    return isinstance(plan, ExactPlan) and plan.crop_s > 0


def _crops(share: float, plan: Plan) -> list[str]:
    """Say how to lose less where much of the audio is cut off."""
    if share < _MUCH_CROPPED:
        return []
    bucketing = "use batch.mode = '1D-bucketing-dyn'"
    remedy = "raise batch.pool_updates" if isinstance(plan, ExactPlan) else bucketing
    return [
        f"crops to the shortest item leave out {share:.0%} of the audio of an epoch; {remedy}, which "
        "puts items of like length together, or set data.fit = 'pad'"
    ]


def _odd(sizes: np.ndarray) -> list[str]:
    """Describe items whose amount of text does not match the length of their audio."""
    odd = dense_outliers(sizes)
    if not len(odd):
        return []
    return [
        "items whose tokens per second deviate from the mean by more than 4 standard deviations: "
        f"{len(odd)} (first: item {int(odd[0])}); check their transcripts"
    ]
