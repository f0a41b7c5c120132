"""Buckets of items of like size: estimated at the start or given, and which item is in which.

Letters: N items, D = 1 (seconds) or 2 (seconds, tokens), K buckets. Pure functions.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from engine.batching.edges import equal_mass_edges, snapped

_OUTLIER_SIGMAS = 4.0


@dataclass(frozen=True, slots=True, eq=False)
class Buckets:
    """Which item is in which bucket.

    Attributes:
        of_item: (N,) number of the bucket of each item; -1 where an item fits none.
        ends: (K, E) largest sizes of each bucket, E <= D; (1, 0) for one bucket of everything.
    """

    of_item: np.ndarray
    ends: np.ndarray

    @property
    def num_buckets(self) -> int:
        """Return K."""
        return len(self.ends)


def one_bucket(num_items: int) -> Buckets:
    """Return a bucket that holds everything."""
    return Buckets(np.zeros(num_items, np.int64), np.zeros((1, 0)))


def by_duration(sizes: np.ndarray, ends_s: np.ndarray) -> Buckets:
    """Put items of (N, D) sizes into the first bucket that is long enough; longer ones fit none."""
    bucket = snapped(sizes[:, 0], ends_s)
    return Buckets(np.where(bucket < len(ends_s), bucket, -1), ends_s[:, None])


def estimated_by_duration(sizes: np.ndarray, count: int) -> Buckets:
    """Return buckets of equal total duration."""
    return by_duration(sizes, equal_mass_edges(sizes[:, 0], count))


def estimated_by_both(sizes: np.ndarray, count: int, *, token_count: int) -> Buckets:
    """Return buckets of equal total duration, each cut into parts of equal total tokens."""
    rows = estimated_by_duration(sizes, count)
    ends: list[np.ndarray] = []
    of_item = np.empty(len(sizes), np.int64)
    rising = np.argsort(rows.of_item, kind="stable")
    borders = np.searchsorted(rows.of_item[rising], np.arange(rows.num_buckets + 1))
    num_buckets = 0
    for row, (first, last) in enumerate(pairwise(borders)):
        items = rising[first:last]
        if not len(items):
            continue
        tokens = sizes[items, 1]
        token_ends = equal_mass_edges(tokens, token_count)
        of_item[items] = num_buckets + snapped(tokens, token_ends)
        longest = np.full(len(token_ends), rows.ends[row, 0])
        ends.append(np.stack([longest, token_ends], axis=1))
        num_buckets += len(token_ends)
    return Buckets(of_item, np.concatenate(ends))


def given_by_both(sizes: np.ndarray, ends: np.ndarray) -> Buckets:
    """Put items of (N, 2) sizes into the smallest (seconds x tokens) of the given buckets (K, 2)."""
    of_item = np.full(len(sizes), -1)
    for bucket in np.argsort(-(ends[:, 0] * np.maximum(ends[:, 1], 1)), kind="stable"):
        of_item[(sizes <= ends[bucket]).all(axis=1)] = bucket
    return Buckets(of_item, ends)


def dense_outliers(sizes: np.ndarray) -> np.ndarray:
    """Return the items whose tokens per second lie more than 4 standard deviations from the mean.

    Their transcripts probably do not match their audio. For items without tokens, (N, 1), there are none.
    """
    if sizes.shape[1] < 2 or len(sizes) < 2:
        return np.zeros(0, np.int64)
    rate = sizes[:, 1] / sizes[:, 0]
    spread = float(rate.std())
    if spread == 0:
        return np.zeros(0, np.int64)
    return np.flatnonzero(np.abs(rate - rate.mean()) > _OUTLIER_SIGMAS * spread)
