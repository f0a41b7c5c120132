"""A long signal in overlapping chunks: their positions, and how their estimates are joined.

Letters: S sources, C channels, T samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from engine.recipes.separation.permutations import continued


@dataclass(frozen=True, slots=True)
class Chunking:
    """How a signal is cut: `length` samples per chunk, `overlap` of them crossfaded with the next."""

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

    Where chunks overlap, the next one fades in linearly; where both are equal, the result is
    bit-identical. Only one chunk is kept in memory.

    Args:
        estimates: (S, C, T) of each chunk, in order.
        overlap: number of samples that a chunk shares with the next.
        interchangeable: sources have no order; each continues as the one it matches in the overlap.
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
