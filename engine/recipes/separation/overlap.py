"""A long signal in overlapping chunks: where they lie, and how their estimates become one.

Letters: S sources, C channels, T samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from engine.recipes.separation.permutations import continued


@dataclass(frozen=True, slots=True)
class Chunking:
    """How a signal is cut: `length` samples at once, `overlap` of them blended into the next."""

    length: int
    overlap: int

    def spans(self, total: int) -> Iterator[tuple[int, int]]:
        """Yield (start, end) of each chunk; every one but the last has the full length."""
        start = 0
        while True:
            end = min(start + self.length, total)
            yield start, end
            if end == total:
                return
            start += self.length - self.overlap


def overlap_add(
    estimates: Iterable[np.ndarray], overlap: int, *, interchangeable: bool
) -> Iterator[np.ndarray]:
    """Yield consecutive blocks (S, C, t) of the whole signal from the estimates of its chunks.

    Where chunks overlap, the next one fades in linearly; equal chunks blend to themselves, bit by
    bit. Only one chunk is held.

    Args:
        estimates: (S, C, T) of each chunk, in order.
        overlap: how many samples a chunk has in common with the next.
        interchangeable: sources have no order: each goes on as the one it resembles in the overlap.
    """
    before: np.ndarray | None = None
    for est_SCT in estimates:
        if before is not None:
            keep = before.shape[-1] - overlap
            yield before[..., :keep]
            if overlap:
                est_SCT = _blended(before[..., keep:], est_SCT, interchangeable=interchangeable)
        before = est_SCT
    if before is not None:
        yield before


def _blended(tail_SCT: np.ndarray, est_SCT: np.ndarray, *, interchangeable: bool) -> np.ndarray:
    size = tail_SCT.shape[-1]
    if interchangeable:
        est_SCT = est_SCT[continued(tail_SCT, est_SCT[..., :size])]
    fade_T = (np.arange(1, size + 1) / (size + 1)).astype(np.float32)
    head_SCT = tail_SCT + fade_T * (est_SCT[..., :size] - tail_SCT)
    return np.concatenate([head_SCT, est_SCT[..., size:]], axis=-1)
