"""When a run can't reach an earlier run any more: a cautious projection of its validation curve.

Both curves are compared at the same number of training items, best value so far against best value
so far. The gap is projected to the end of the run along its own recent trend, with the benefit of the
doubt: of the slopes that the recent gaps allow, the one most in favour of the run. A gap that grows is
projected as it is. Values are such that higher is better.

The constants were chosen by simulation (`tests/bench/stop_rules.py`).

Letters: N evaluations of the run, M of the reference.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

Points = Sequence[tuple[float, float]]

# No verdict before this share of the run, nor with fewer evaluations of either run.
MIN_SHARE = 0.4
MIN_EVALUATIONS = 8
# The gap has to be clear at this many evaluations in a row.
_IN_A_ROW = 3
# Standard errors of slope and gap that count in favour of the run.
_DOUBT = 3.0
# The run may gain more than the reference did from the same point on, by this share of that gain:
# another peak of the learning rate pays off late, when it decays.
_MORE_GAIN = 2.0


@dataclass(frozen=True, slots=True)
class ReferenceCurve:
    """The validation curve of a finished run: values of one metric at numbers of training items."""

    name: str
    items: tuple[float, ...]
    values: tuple[float, ...]

    def points(self, sign: float) -> Points:
        """Return the curve with its values multiplied by `sign`."""
        return [(at, sign * value) for at, value in zip(self.items, self.values, strict=True)]

    def to_json(self) -> str:
        """Return the curve as text."""
        return json.dumps(
            {"run": self.name, "items": list(self.items), "values": list(self.values)}
        )


def read_reference(path: Path) -> ReferenceCurve:
    """Return the curve that a file holds.

    Raises:
        OSError: when it can't be read.
        ValueError: when it is damaged.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        return ReferenceCurve(
            str(raw["run"]), tuple(map(float, raw["items"])), tuple(map(float, raw["values"]))
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({error}); restore it") from None


def shortfall(own: Points, reference: Points, *, end: float) -> float | None:
    """Return by how much a run will at least end below its reference; None: not to be said yet.

    Args:
        own: (items, value) of the run so far, in order.
        reference: (items, value) of the reference.
        end: items at the end of the run.
    """
    own_N2, reference_M2 = _finite(own), _finite(reference)
    if min(len(own_N2), len(reference_M2)) < MIN_EVALUATIONS:
        return None
    at_N = own_N2[:, 0]
    if at_N[-1] < MIN_SHARE * end:
        return None
    best_M = np.maximum.accumulate(reference_M2[:, 1])
    gap_N = np.interp(at_N, reference_M2[:, 0], best_M) - np.maximum.accumulate(own_N2[:, 1])
    noise = max(noise_of(own_N2[:, 1]), noise_of(reference_M2[:, 1]))
    recent = at_N >= at_N[-1] / 2
    slope = min(0.0, _lowest_slope(at_N[recent], gap_N[recent], noise=noise))
    now = float(gap_N[-_IN_A_ROW:].min()) - _DOUBT * noise
    now -= _MORE_GAIN * max(
        0.0, float(best_M[-1] - np.interp(at_N[-1], reference_M2[:, 0], best_M))
    )
    return max(0.0, now + slope * max(0.0, end - float(at_N[-1])))


def noise_of(values_N: np.ndarray) -> float:
    """Return the standard deviation of a curve around its trend, from its second differences."""
    second = np.diff(values_N, 2)
    # The median of |x| of a normal deviate is 0.6745 deviations; second differences have variance 6.
    return float(np.median(np.abs(second))) / 0.6745 / 6**0.5 if len(second) else 0.0


def _lowest_slope(at_N: np.ndarray, gap_N: np.ndarray, *, noise: float) -> float:
    """Return the slope of a line through the gaps, less its uncertainty."""
    if len(at_N) < 3:
        return -np.inf
    centred_N = at_N - at_N.mean()
    spread = float((centred_N**2).sum())
    slope = float((centred_N * gap_N).sum()) / spread
    residual_N = gap_N - gap_N.mean() - slope * centred_N
    deviation = max(noise, float(residual_N.std(ddof=2)))
    return float(slope - _DOUBT * deviation / spread**0.5)


def _finite(points: Points) -> np.ndarray:
    points_N2 = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    kept: np.ndarray = points_N2[np.isfinite(points_N2).all(axis=1)]
    return kept
