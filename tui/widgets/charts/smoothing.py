"""Smoothing of noisy curves, for the eye: a centred mean, so that a curve lags behind nothing. NumPy only."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from tui.widgets.charts.braille import FloatArray


def smooth(values: FloatArray, share: float) -> FloatArray:
    """Return the mean of each value and its neighbours, as many on each side; NaN counts as no value and stays.

    The window narrows towards the ends, down to the first and the last value themselves: one that has more
    values on one side would draw a falling curve too high at its start and too low at its end.

    Args:
        values: of a curve, evenly spaced.
        share: of the values that the window spans; 0 leaves the curve as it is.
    """
    count = len(values)
    half = min(int(count * share), count - 1) // 2
    if half < 1:
        return values
    finite = np.isfinite(values)
    known = np.where(finite, values, 0.0)
    # No cumulative sums: after one value of 1e30, what they lose would be all that is left.
    window = 2 * half + 1
    total, number = known.copy(), finite.astype(np.float64)
    total[half : count - half] = sliding_window_view(known, window).sum(axis=1)
    number[half : count - half] = sliding_window_view(finite, window).sum(axis=1)
    for side in range(1, half):
        for place in (side, count - 1 - side):
            near = slice(place - side, place + side + 1)
            total[place], number[place] = known[near].sum(), finite[near].sum()
    mean = np.divide(total, number, out=np.full(count, np.nan), where=number > 0)
    return np.where(finite, mean, np.nan)
