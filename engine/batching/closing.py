"""Closes batches: takes items in a given order, each batch as large as its cap allows.

Letters: N items, D = 1 (seconds) or 2 (seconds, tokens), L lanes, W items looked at ahead.
A batch costs the number of its items times the cost of its padded shape, which is the maximum
of its items in each of the D sizes. Pure functions of numbers.

The end of a batch depends on all items since its start, so one lane (a bucket, or a part of it) can
only be closed batch by batch. A Python loop over the items would be too slow for large datasets.
Therefore all lanes with batches of similar size advance together, one batch per round, as arrays.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

# Tolerance for rounding errors: 320.0000001 padded seconds count as 320.
_SLACK = 1 + 1e-9
_LONGEST_LANE = 8_192
_FIRST_LOOK = 32


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of an item of a padded shape, in padded seconds.

    Attributes:
        quadratic_s: length at which a quadratic term equals the linear one; None: no such term.
        joint_tokens: number of tokens that cost as much as the audio itself; None: tokens are free.
    """

    quadratic_s: float | None = None
    joint_tokens: float | None = None

    def of(self, shape: np.ndarray) -> np.ndarray:
        """Return (...) costs of (..., D) shapes; increasing in each of the D sizes."""
        seconds = shape[..., 0]
        cost = seconds
        if self.quadratic_s is not None:
            cost = cost + seconds * seconds / self.quadratic_s
        if self.joint_tokens is not None and shape.shape[-1] > 1:
            cost = cost * (1 + shape[..., 1] / self.joint_tokens)
        return np.asarray(cost)


def close_batches(
    sizes: np.ndarray, lanes: np.ndarray, *, cost: Cost, cap: float, most: int
) -> np.ndarray:
    """Return (B,) where each batch starts, increasing.

    A batch takes items in order until the next one would raise its cost above `cap` or its size
    above `most` items, or until its lane ends. An item that exceeds `cap` on its own is a batch of
    its own.

    Args:
        sizes: (N, D) sizes in the order of the batches.
        lanes: (L,) where lanes start, increasing, the first at 0; no batch spans two lanes.
        cost: cost of a shape.
        cap: maximum cost of a batch.
        most: maximum items of a batch.
    """
    if not len(sizes):
        return np.zeros(0, np.int64)
    at, ends = _cut_lanes(lanes, len(sizes))
    columns = [np.append(column, np.inf) for column in sizes.T]
    means = np.add.reduceat(sizes, at, axis=0) / (ends - at)[:, None]
    # Lanes with batches of similar size advance together, since they look equally far ahead.
    alike = np.log2(np.clip(cap / np.maximum(cost.of(means), 1e-9), 1, most)).astype(np.int64)
    starts: list[np.ndarray] = []
    for size in np.unique(alike):
        chosen = alike == size
        walk = _Walk(columns, cost, cap=cap * _SLACK, most=most)
        starts.extend(walk.starts(at[chosen], ends[chosen]))
    return np.sort(np.concatenate(starts))


@dataclass(frozen=True, slots=True)
class _Walk:
    """Closes one batch after the other in several lanes at once."""

    columns: list[np.ndarray]
    cost: Cost
    cap: float
    most: int

    def starts(self, at: np.ndarray, ends: np.ndarray) -> Iterator[np.ndarray]:
        """Yield where the next batch of each unfinished lane starts."""
        look = _FIRST_LOOK
        while len(at):
            yield at
            taken = self._taken(at, ends, look=min(look, self.most))
            while look < self.most and bool((taken >= look).any()):
                look *= 2
                taken = self._taken(at, ends, look=min(look, self.most))
            look = int(taken.max()) + 8
            at = at + taken
            going = at < ends
            at, ends = at[going], ends[going]

    def _taken(self, at: np.ndarray, ends: np.ndarray, *, look: int) -> np.ndarray:
        """Return (L,) how many of the next `look` items of each lane fit one batch, at least 1."""
        ahead = at[:, None] + np.arange(look)
        ahead = np.where(ahead < ends[:, None], ahead, len(self.columns[0]) - 1)
        longest = np.stack(
            [np.maximum.accumulate(column[ahead], axis=1) for column in self.columns], axis=-1
        )
        fits = self.cost.of(longest) * np.arange(1, look + 1) <= self.cap
        return np.asarray(np.maximum(fits.sum(axis=1), 1))


def _cut_lanes(lanes: np.ndarray, num_items: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut long lanes into parts that advance together; costs one unfilled batch per 8192 items."""
    ends = np.append(lanes[1:], num_items)
    parts = np.maximum(1, -(-(ends - lanes) // _LONGEST_LANE))
    first = np.cumsum(parts) - parts
    part = np.arange(parts.sum()) - np.repeat(first, parts)
    length = np.repeat((ends - lanes) / parts, parts)
    starts = np.repeat(lanes, parts) + np.floor(part * length).astype(np.int64)
    keep = np.append(starts[1:], num_items) > starts
    starts = starts[keep]
    return starts, np.append(starts[1:], num_items)


def batch_shapes(sizes: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Return (B, D), the maximum of each batch in each size."""
    if not len(starts):
        return np.zeros((0, sizes.shape[1]))
    return np.asarray(np.maximum.reduceat(sizes, starts, axis=0))


def halved(starts: np.ndarray, num_items: int, *, extra: int) -> np.ndarray:
    """Return the starts with `extra` more batches, by halving those with the most items.

    Returns fewer when each batch holds one item.
    """
    while extra > 0:
        counts = np.diff(np.append(starts, num_items))
        splittable = int((counts > 1).sum())
        if not splittable:
            break
        chosen = np.argsort(-counts, kind="stable")[: min(extra, splittable)]
        middles = starts[chosen] + (counts[chosen] + 1) // 2
        starts = np.sort(np.concatenate([starts, middles]))
        extra -= len(chosen)
    return starts
