"""From a config and the sizes of its items to the plan of its updates.

mode                  size of a micro-batch         buckets
exact                 up to the device's limits     none: updates are free of hardware
fixed                 micro_batch items             none
duration              padded cap                    none
1D-bucketing          padded cap                    given durations
1D-bucketing-dyn      padded cap                    durations, estimated at the start
2D-bucketing          cap on duration and tokens    (duration, tokens), given or estimated
2D-bucketing-fixed    given for each bucket         given (duration, tokens)
2D-bucketing-singlet  micro_batch items             one (duration, tokens): one padded shape
"""

from __future__ import annotations

from math import inf

import numpy as np

from engine.batching.buckets import (
    Buckets,
    by_duration,
    estimated_by_both,
    estimated_by_duration,
    given_by_both,
    one_bucket,
)
from engine.batching.capped import CappedEpochs, Limits
from engine.batching.capped_plan import CappedPlan
from engine.batching.closing import Cost
from engine.batching.edges import closed_edges, whole_hops
from engine.batching.exact import Device, ExactPlan
from engine.batching.plan import FixedPlan, Plan
from engine.config.batch import TOKEN_MODES, BatchConfig
from engine.config.schema import RunConfig


class PlanError(ValueError):
    """Batch settings that do not match the training data."""


def open_plan(
    config: RunConfig,
    sizes: np.ndarray,
    *,
    manifest: str,
    groups: np.ndarray | None = None,
    rank: int = 0,
    world: int = 1,
) -> Plan:
    """Return the plan of a run, a pure function of the arguments.

    Args:
        config: the run.
        sizes: (N, 1) seconds, or (N, 2) seconds and tokens, of the training items.
        manifest: hash of the dataset's content, so that a resume detects changed files.
        groups: (N,) of the items (`engine.batching.apart`); None: none.
        rank: which of the `world` devices to pack for.
        world: devices that train together.

    Raises:
        PlanError: when the settings of `batch` don't fit the sizes.
    """
    batch, crop_s = config.batch, config.data.crop_s
    cost = Cost(batch.quadratic_s)
    if batch.mode != "exact":
        epochs = _capped(config, sizes, world=world)
        return CappedPlan(batch.mode, epochs, manifest=manifest, rank=rank)
    if batch.seconds is None and bool((sizes == sizes[0]).all()):
        fits = inf if batch.cap_s is None else batch.cap_s / float(cost.of(sizes[0]))
        most = max(1, int(min(fits * (1 + 1e-9), batch.micro_batch)))
        item_s = float(whole_hops(sizes[0, 0], crop_s) if crop_s else sizes[0, 0])
        return FixedPlan(
            len(sizes), batch.items, micro_batch=most, seed=config.seed, manifest=manifest,
            item_s=item_s, rank=rank, world=world,
        )  # fmt: skip
    longest = float(sizes[:, 0].max())
    if batch.seconds is not None and batch.seconds < 2 * longest:
        raise PlanError(
            f"batch.seconds = {batch.seconds:g} is too small: an update must have room for two of the longest "
            f"item ({longest:.2f} s); raise it to at least {int(2 * longest) + 1}"
        )
    # Fewer for tokens: shapes are pairs of both.
    counts = (batch.edges, max(1, batch.edges // 4))
    edges = tuple(closed_edges(*pair) for pair in zip(sizes.T, counts, strict=False))
    cap = inf if batch.cap_s is None else batch.cap_s
    return ExactPlan(
        sizes,
        batch.items if batch.seconds is None else batch.seconds,
        by_seconds=batch.seconds is not None,
        pool_updates=batch.pool_updates,
        seed=config.seed,
        manifest=manifest,
        worst_first=batch.worst_first,
        device=Device(cost, cap, most=batch.micro_batch, edges=edges, rank=rank, world=world),
        crop_s=crop_s,
        groups=groups,
    )


def _capped(config: RunConfig, sizes: np.ndarray, *, world: int) -> CappedEpochs:
    batch, seed = config.batch, config.seed
    if batch.mode in TOKEN_MODES and sizes.shape[1] < 2:
        raise PlanError(
            f"batch.mode = {batch.mode!r} requires items with tokens, but this data has none; "
            "use '1D-bucketing-dyn' or 'exact'"
        )
    buckets = _buckets(batch, sizes)
    if not bool((buckets.of_item >= 0).any()):
        ends = buckets.ends.tolist()
        raise PlanError(
            f"no item fits into the buckets {ends}; raise batch.bin_ends or batch.bin_ends_s"
        )
    epochs = CappedEpochs(
        sizes, buckets, limits=_limits(batch, buckets), seed=seed, world=world, accumulation=batch.accumulation,
        drop_tail=batch.tail == "drop", worst_first=batch.worst_first, crop_s=config.data.crop_s,
    )  # fmt: skip
    if not epochs.updates:
        raise PlanError(
            f"batch.accumulation = {batch.accumulation}, but an epoch has only {sum(epochs.steps)} "
            "batches per device; lower it, or set batch.tail = split"
        )
    return epochs


def _buckets(batch: BatchConfig, sizes: np.ndarray) -> Buckets:
    match batch.mode:
        case "1D-bucketing":
            return by_duration(sizes, np.array(batch.bin_ends_s))
        case "1D-bucketing-dyn":
            return estimated_by_duration(sizes, batch.bins)
        case "2D-bucketing" if not batch.bin_ends:
            return estimated_by_both(sizes, batch.bins, token_count=batch.token_bins)
        case "2D-bucketing" | "2D-bucketing-fixed" | "2D-bucketing-singlet":
            return given_by_both(sizes, np.array(batch.bin_ends))
        case _:
            return one_bucket(len(sizes))


def _limits(batch: BatchConfig, buckets: Buckets) -> Limits:
    cost, most = Cost(batch.quadratic_s), (batch.micro_batch,) * buckets.num_buckets
    if batch.mode == "2D-bucketing":
        cost = Cost(batch.quadratic_s, batch.joint_tokens)
    if batch.cap_s is not None:
        return Limits(cost, batch.cap_s, most=most)
    if batch.mode == "2D-bucketing-fixed":
        most = batch.bin_items
    return Limits(cost, inf, most=most, full=True, padded_to_ends=batch.mode != "fixed")
