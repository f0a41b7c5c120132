"""Closed sizes that items are padded up to, and buckets of about equal work. Pure functions."""

from __future__ import annotations

import numpy as np

_CELLS = 16_384


def closed_edges(sizes: np.ndarray, count: int) -> np.ndarray:
    """Return at most `count` rising edges that waste little padding; the last is the largest size.

    Where sizes have a density f, padding them to edges a distance w(x) apart wastes the integral of
    f w / 2; for a given number of edges that is least where w goes with 1 / sqrt(f) (Panter and
    Dite 1951, for quantisers). So edges are equally spaced in the integral of sqrt(f), and each is
    lowered to the size of an item.

    Args:
        sizes: (N,) sizes, at least one.
        count: maximum number of edges.
    """
    rising = np.sort(sizes)
    low, high = float(rising[0]), float(rising[-1])
    changes = np.flatnonzero(np.diff(rising) > 0)
    if len(changes) < count:
        return np.append(rising[changes], high)
    density, borders = np.histogram(rising, bins=_CELLS, range=(low, high))
    width = max(1, _CELLS // (8 * count))
    window = np.full(2 * width + 1, 1 / (2 * width + 1))
    mass = np.cumsum(np.sqrt(np.convolve(density, window, mode="same")))
    steps = np.arange(1, count) * (mass[-1] / count)
    inner = np.interp(steps, np.append(0, mass), borders)
    places = np.searchsorted(rising, inner, side="right") - 1
    return np.unique(np.append(rising[np.maximum(places, 0)], high))


def equal_mass_edges(sizes: np.ndarray, count: int) -> np.ndarray:
    """Return at most `count` rising edges between which the items have equal total size.

    The running sum over the sorted sizes is cut into equal parts; the last edge is the largest size.

    Args:
        sizes: (N,) sizes, at least one.
        count: maximum number of buckets.
    """
    rising = np.sort(sizes)
    total = np.cumsum(rising)
    parts = np.arange(1, count) * (total[-1] / count)
    places = np.minimum(np.searchsorted(total, parts), len(rising) - 1)
    return np.unique(np.append(rising[places], rising[-1]))


def whole_hops(sizes: np.ndarray, hop_s: float) -> np.ndarray:
    """Return sizes in seconds, lowered to multiples of `hop_s`; rounding errors lower none."""
    return np.asarray(np.floor(sizes / hop_s + 1e-6) * hop_s)


def snapped(sizes: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return (N,) the number of the lowest edge that is not below each size; K where there is none.

    Args:
        sizes: (N,) sizes.
        edges: (K,) rising.
    """
    low, high = float(edges[0]), float(edges[-1])
    if len(sizes) < _CELLS or high <= low:
        return np.searchsorted(edges, sizes, side="left")
    # A table of cells answers for all items but those in a cell that holds an edge; ten times
    # faster than a search for each item.
    edge_cells, size_cells = (_cells(values, low, high=high) for values in (edges, sizes))
    numbers = np.searchsorted(edge_cells, np.arange(_CELLS + 2), side="left")[size_cells]
    with_edge = np.zeros(_CELLS + 2, bool)
    with_edge[edge_cells] = True
    unsure = np.flatnonzero(with_edge[size_cells])
    numbers[unsure] = np.searchsorted(edges, sizes[unsure], side="left")
    return np.asarray(numbers)


def _cells(values: np.ndarray, low: float, *, high: float) -> np.ndarray:
    """Return (N,) cell numbers 0 to _CELLS + 1, which never fall where values rise."""
    scaled = (values - low) * (_CELLS / (high - low)) + 1
    return np.clip(scaled, 0, _CELLS + 1).astype(np.int32)
