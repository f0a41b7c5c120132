"""Whether a series that wanders has risen, whatever its noise: no model of it is assumed. Free of torch.

The last values are cut into quarters, and their means have risen where the last is above the first by more than
`_TIMES` of what the series wanders by itself. How much that is, the series tells: the means of j values bend by
first - 2 second + third, which a steady rise or fall does not, and the median size of such bends is measured for
spans of 1, 2, 4 ... values. Noise that is independent from value to value shrinks in longer means, noise that lasts
does not, and none grows faster than a random walk. So each span j bounds what means of m values wander by,
by sqrt(m / j) of its bends, and the least of these bounds counts.

Measured over all looks of a series together, which is looked at after each value: docs/training.md and
tests/engine/training/test_rising.py. Letters: R runs, N values, Q sizes of a quarter.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Calibrated by simulation: of series of 10 to 200 values without a rise, at most 5 % are ever taken for one. Few bends
# tell little about noise, so that they count for more.
_TIMES, _FEW = 7.0, 2.0
# Of normal deviates, the standard deviation is this many times the median of their size.
_FROM_MEDIAN = 1.4826
# Share of the rise that has to be there a quarter before: one bad value is no rise.
_STEADY = 0.25


def quarters(count: int, *, after: int) -> list[int]:
    """Return how many values a quarter may have: a fourth of `after`, twice that, and so on up to `count` values."""
    sizes, size = [], -(-after // 4)
    while 4 * size <= count:
        sizes.append(size)
        size *= 2
    return sizes


def has_risen(value_RN: Floats, *, after: int) -> NDArray[np.bool_]:
    """Return (R, Q) whether the last four quarters of each size rise by more than the series wanders by itself.

    Args:
        value_RN: all values so far.
        after: number of values in the shortest four quarters.
    """
    sizes = quarters(value_RN.shape[1], after=after)
    wandering = dict(_wandering(value_RN, longest=2 * max(sizes, default=0)))
    found = []
    for size in sizes:
        first, _, third, last = (value_RN[:, -4 * size :].reshape(-1, 4, size).mean(axis=2)).T
        bounds = [
            bend * (size / span) ** 0.5 for span, bend in wandering.items() if span <= 2 * size
        ]
        rise = last - first
        found.append((rise > _TIMES * np.min(bounds, axis=0)) & (third - first > _STEADY * rise))
    return np.array(found, dtype=bool).reshape(len(sizes), len(value_RN)).T


def _wandering(value_RN: Floats, *, longest: int) -> Iterator[tuple[int, Floats]]:
    """Yield spans of values, and by how much means over one bend: the median of all, or of the later half."""
    count = value_RN.shape[1]
    sums = np.cumsum(np.pad(value_RN, ((0, 0), (1, 0))), axis=1)
    span = 1
    while span <= longest and 3 * span <= count:
        mean = (sums[:, span:] - sums[:, :-span]) / span
        bend = np.abs(mean[:, 2 * span :] - 2 * mean[:, span:-span] + mean[:, : -2 * span])
        typical = np.median(bend, axis=1)
        # Bends that end in the later half: a loss that fell fast at first bends as if it were noise.
        later = bend[:, max(0, count // 2 - 3 * span + 1) :]
        if later.shape[1] > 2 * span:
            typical = np.minimum(typical, np.median(later, axis=1))
        yield span, _FROM_MEDIAN * typical * (1 + _FEW * span / bend.shape[1])
        span *= 2
