"""Curves as braille dots: reduction to columns, rasterising, ticks. NumPy only, no widget.

A terminal cell has 2 x 4 dots. The cost depends on the chart size and, through one vectorised pass,
on the number of points; there is no Python loop over points.

Letters: N points, D dot columns, H cell rows, W cell columns.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BitArray = NDArray[np.uint8]

BLANK = 0x2800
_DOTS_42 = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]], dtype=np.uint8)
_STEPS = (1.0, 2.0, 5.0, 10.0)


def column_of(x_N: FloatArray, first: float, last: float, columns: int) -> IntArray:
    """Return the dot column of each x; `first` is column 0 and `last` the rightmost one."""
    span = max(last - first, 1e-12)
    column_N = np.rint((x_N - first) / span * (columns - 1))
    return np.clip(column_N, -1, columns).astype(np.int64)


def reduce_columns(
    column_N: IntArray, y_N: FloatArray, *, columns: int, how: np.ufunc
) -> tuple[IntArray, FloatArray]:
    """Return the occupied columns, ascending, and `how` (fmin, fmax) of the points in each.

    `column_N` must ascend. A column whose points are all NaN is occupied by NaN.
    """
    inside = (column_N >= 0) & (column_N < columns)
    column_N, y_N = column_N[inside], y_N[inside]
    if not len(column_N):
        return column_N, y_N
    starts = np.flatnonzero(np.diff(column_N, prepend=-1))
    return column_N[starts], how.reduceat(y_N, starts)


def mean_columns(
    column_N: IntArray, y_N: FloatArray, *, columns: int
) -> tuple[IntArray, FloatArray]:
    """Return the occupied columns and the mean of the finite points in each."""
    finite_N = np.isfinite(y_N)
    occupied, total = reduce_columns(
        column_N, np.where(finite_N, y_N, 0.0), columns=columns, how=np.add
    )
    _, number = reduce_columns(column_N, finite_N.astype(np.float64), columns=columns, how=np.add)
    return occupied, np.divide(total, number, out=np.full_like(total, np.nan), where=number > 0)


def spread(occupied: IntArray, values: FloatArray, columns: int) -> FloatArray:
    """Return a value for each column: straight lines between occupied ones, NaN outside them.

    A NaN breaks the line on both sides.
    """
    out_D = np.full(columns, np.nan)
    if len(occupied):
        left, right = int(occupied[0]), int(occupied[-1])
        out_D[left : right + 1] = np.interp(np.arange(left, right + 1), occupied, values)
        out_D[occupied] = values
    return out_D


def dot_rows(y_D: FloatArray, low: float, high: float, rows: int) -> IntArray:
    """Return the dot row of each y, 0 at the top; -1 where y is NaN; values outside are clipped."""
    span = max(high - low, 1e-300)
    gap_D = np.isnan(y_D)
    row_D = (rows - 1) * (1.0 - (np.where(gap_D, low, y_D) - low) / span)
    row_D = np.minimum(np.maximum(np.rint(row_D), 0), rows - 1)
    row_D[gap_D] = -1
    return row_D.astype(np.int64)


def connect(row_D: IntArray) -> tuple[IntArray, IntArray]:
    """Return the top and bottom dot row of each column so that neighbours touch; -1 stays a gap."""
    top_D, bottom_D = row_D.copy(), row_D.copy()
    here, there = row_D[:-1], row_D[1:]
    both = (here >= 0) & (there >= 0)
    middle = (here + there) // 2
    down, up = both & (there > here), both & (there < here)
    bottom_D[:-1][down] = np.maximum(bottom_D[:-1], middle)[down]
    top_D[1:][down] = np.minimum(top_D[1:], middle + 1)[down]
    top_D[:-1][up] = np.minimum(top_D[:-1], middle + 1)[up]
    bottom_D[1:][up] = np.maximum(bottom_D[1:], middle)[up]
    return top_D, bottom_D


def fill(top_D: IntArray, bottom_D: IntArray, rows: int) -> BitArray:
    """Return the braille bits (H, W) of vertical runs of dots, top to bottom in each column."""
    row_R = np.arange(rows)[:, None]
    dots_RD = (row_R >= top_D) & (row_R <= bottom_D) & (top_D >= 0)
    return pack(dots_RD)


def pack(dots_RD: NDArray[np.bool_]) -> BitArray:
    """Return braille bits (H, W) of dots (4 H, 2 W)."""
    rows, columns = dots_RD.shape
    cells = dots_RD.reshape(rows // 4, 4, columns // 2, 2)
    return np.asarray((cells * _DOTS_42[None, :, None, :]).sum(axis=(1, 3)), dtype=np.uint8)


def ticks(low: float, high: float, at_most: int) -> list[float]:
    """Return round numbers (1, 2, 5 times a power of ten) inside [low, high]."""
    if not high > low or at_most < 1:
        return [low]
    raw = (high - low) / at_most
    power = 10.0 ** math.floor(math.log10(raw))
    for factor in (*_STEPS, 20.0):
        step = factor * power
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first + 1 <= at_most:
            return [index * step for index in range(first, last + 1)] or [low]
    return [low]


def log_ticks(low: float, high: float, at_most: int) -> list[float]:
    """Return ticks for an axis in log10: decades, or 1-2-5 steps where less than two fit."""
    decades = [float(power) for power in range(math.ceil(low), math.floor(high) + 1)]
    if len(decades) < 2:
        fine = [
            power + math.log10(factor)
            for power in range(math.floor(low), math.ceil(high) + 1)
            for factor in (1, 2, 5)
        ]
        decades = [value for value in fine if low <= value <= high] or [low]
    stride = math.ceil(len(decades) / max(1, at_most))
    return decades[::stride]
