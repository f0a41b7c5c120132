"""Distances between sequences of frames: dynamic time warping of angular distances, many pairs at once.

Sources: Schatz et al. 2013 (ABX); as in ABXpy, the sum along the best path is divided by its length.
Letters: P pairs, L frames, D dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Cells of a batch of pairs: bounds memory to some 100 MB, whatever the number of pairs.
_MOST_CELLS = 2_000_000


def angular(a_LD: np.ndarray, b_LD: np.ndarray) -> np.ndarray:
    """Return the angle between each frame of one and of the other, over pi, (La, Lb) in [0, 1].

    A frame of zeros has no direction; it is at a right angle to all others.
    """
    return np.asarray(np.arccos(np.clip(a_LD @ b_LD.T, -1.0, 1.0)) / np.pi)


def unit_frames(frames_LD: np.ndarray) -> np.ndarray:
    """Return frames of length 1, float64; zeros stay."""
    frames_LD = frames_LD.astype(np.float64)
    norm_L = np.linalg.norm(frames_LD, axis=1, keepdims=True)
    return np.asarray(frames_LD / np.where(norm_L > 0, norm_L, 1.0))


def distances(
    items: Sequence[np.ndarray], pairs: Sequence[tuple[int, int]] | np.ndarray
) -> np.ndarray:
    """Return the distance of each pair of items, (P,).

    Args:
        items: their frames, as `unit_frames` gives them.
        pairs: places of the two items of each pair.
    """
    pairs = np.asarray(pairs, dtype=np.int64).reshape(-1, 2)
    length_P = [np.array([len(items[place]) for place in column]) for column in pairs.T]
    result_P = np.empty(len(pairs))
    # Pairs of about equal lengths share a batch, so that little of it is padding.
    order = np.lexsort(length_P[::-1])
    begin = 0
    while begin < len(order):
        end, longest = begin, [1, 1]
        while end < len(order):
            grown = [max(longest[side], int(length_P[side][order[end]])) for side in (0, 1)]
            if end > begin and grown[0] * grown[1] * (end + 1 - begin) > _MOST_CELLS:
                break
            longest, end = grown, end + 1
        batch = order[begin:end]
        result_P[batch] = _batch(items, pairs[batch], longest=longest)
        begin = end
    return result_P


def _batch(items: Sequence[np.ndarray], pairs: np.ndarray, *, longest: Sequence[int]) -> np.ndarray:
    cost_PLL = np.full((len(pairs), *longest), np.inf)
    ends = np.empty((len(pairs), 2), dtype=np.int64)
    for row, (first, second) in enumerate(pairs):
        cost = angular(items[first], items[second])
        cost_PLL[row, : cost.shape[0], : cost.shape[1]] = cost
        ends[row] = cost.shape
    return warped(cost_PLL, ends)


def warped(cost_PLL: np.ndarray, ends_P2: np.ndarray) -> np.ndarray:
    """Return the mean cost along the cheapest path from the first cell to the last one of each pair, (P,).

    A path makes steps of one along either axis or both. Where several paths are the cheapest, the
    diagonal step goes before one along the first axis, and that before one along the second.

    Args:
        cost_PLL: (P, La, Lb) costs, with anything beyond the ends.
        ends_P2: La and Lb of each pair.
    """
    count, rows, columns = cost_PLL.shape
    total = np.full((count, rows + 1, columns + 1), np.inf)
    steps = np.zeros((count, rows + 1, columns + 1))
    total[:, 0, 0] = 0.0
    # Cells of one anti-diagonal need only earlier ones.
    for diagonal in range(rows + columns - 1):
        i = np.arange(max(0, diagonal - columns + 1), min(rows, diagonal + 1))
        j = diagonal - i
        choices = np.stack([total[:, i, j], total[:, i, j + 1], total[:, i + 1, j]])
        lengths = np.stack([steps[:, i, j], steps[:, i, j + 1], steps[:, i + 1, j]])
        best = choices.argmin(axis=0)[None]
        total[:, i + 1, j + 1] = np.take_along_axis(choices, best, 0)[0] + cost_PLL[:, i, j]
        steps[:, i + 1, j + 1] = np.take_along_axis(lengths, best, 0)[0] + 1
    last = np.arange(count), ends_P2[:, 0], ends_P2[:, 1]
    return np.asarray(total[last] / steps[last])
