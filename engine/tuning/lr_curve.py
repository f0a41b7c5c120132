"""What a learning-rate range test says: the smoothed loss, where it diverges, a suggestion with its reason.

The test trains while the learning rate grows exponentially (Smith, 2017). The loss falls slowly at
first, then steeply, has a minimum, and rises again. The middle of the fall is a rate that short runs find
too low, and the minimum is near the end of what works: the suggestion lies halfway between the two on
a logarithmic scale, and keeps a distance from minimum and divergence. The slope of the curve is not used:
its steepest point moves by decades with the noise. Where no fall is clear there is no suggestion. Free of torch.

Letters: N updates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.training.reference_rule import noise_of

Floats = NDArray[np.float64]

# A loss has fallen or risen if it did so by this many deviations of its smoothed level.
# In simulation, 1 % of flat losses seem to fall by more (`test_lr_curve.py`).
_CLEAR = 3.5
# The suggestion keeps this distance from the minimum and from the divergence.
_BELOW_MINIMUM = 3.0
_BELOW_DIVERGENCE = 10.0
# The first part of the range, in which a minimum means that all of it is too high.
_AT_ONCE = 0.1
# A divergence in this first part means that the range begins too high.
_EARLY = 0.3
# A minimum in the last part means that the range ends too early.
_AT_END = 0.95
_FEWEST = 20


@dataclass(frozen=True, slots=True)
class LrPoint:
    """One update of the test; NaN where loss or gradient was not finite, and the update skipped."""

    lr: float
    loss: float
    grad_norm: float = float("nan")


@dataclass(frozen=True, slots=True)
class LrFinding:
    """The answer of a test.

    Attributes:
        smooth: the smoothed loss at each point; NaN before the first finite one.
        noise: standard deviation of a level of the loss, smoothed and at the start together.
        suggestion: the learning rate; None where the test gives no clear answer.
        reason: why this one, or why none, and what to do.
        minimum: where the smoothed loss was lowest; None where it never fell clearly.
        divergence: where the loss had risen by as much as it fell, or stopped being finite; None: not in
            the range.
    """

    smooth: tuple[float, ...]
    noise: float
    suggestion: float | None
    reason: str
    minimum: float | None = None
    divergence: float | None = None


def range_of(low: float, high: float, *, updates: int) -> list[float]:
    """Return the learning rate of each update, from `low` to `high` in equal ratios."""
    if updates == 1:
        return [low]
    return [float(low * (high / low) ** (k / (updates - 1))) for k in range(updates)]


def find(points: list[LrPoint]) -> LrFinding:
    """Return what the points of a test say."""
    lr_N = np.array([point.lr for point in points], dtype=np.float64)
    loss_N = np.array([point.loss for point in points], dtype=np.float64)
    smooth_N, noise = smoothed(loss_N)
    told = (tuple(smooth_N.tolist()), noise)
    finite_N = np.isfinite(loss_N)
    if finite_N.sum() < _FEWEST:
        why = f"only {len(points)} updates; at least {_FEWEST} are needed"
        if not finite_N.all():
            where = _text(lr_N[~finite_N][0])
            why = f"loss or gradient are not finite from {where} on; lower --min, or check the data"
        return LrFinding(*told, None, why, divergence=_first_bad(lr_N, loss_N))
    start = _level_at_start(loss_N)
    best = int(np.nanargmin(smooth_N))
    fallen = start - float(smooth_N[best])
    too_high = start + _margin(noise, start)
    divergence = _divergence(lr_N, smooth_N, best=best, above=too_high) or _first_bad(lr_N, loss_N)
    if fallen <= _margin(noise, start):
        fall = f"(by {fallen:.3g}, with noise of {noise:.3g}); use more --updates"
        if divergence is None:
            why = (
                f"the loss did not fall clearly between {_text(lr_N[0])} and {_text(lr_N[-1])} {fall}, a "
                "larger batch, or a higher --max"
            )
        elif divergence > lr_N[int(_EARLY * len(lr_N))]:
            # It had room to fall: lower rates would add nothing.
            why = (
                f"the loss did not fall clearly before it diverges at {_text(divergence)} {fall} or a "
                "larger batch"
            )
        else:
            why = f"the loss diverges at {_text(divergence)} without having fallen before; lower --min"
        return LrFinding(*told, None, why, divergence=divergence)
    minimum = float(lr_N[best])
    if best < _AT_ONCE * len(points):
        why = f"the loss is lowest at the start of the range, at {_text(minimum)}; lower --min"
        return LrFinding(*told, None, why, minimum=minimum, divergence=divergence)
    suggestion, reason = _suggest(lr_N, smooth_N, best=best, start=start, divergence=divergence)
    if divergence is None and best >= _AT_END * len(points):
        reason += f"; the loss still falls at {_text(lr_N[-1])}, so a higher --max may suggest more"
    return LrFinding(*told, suggestion, reason, minimum=minimum, divergence=divergence)


def has_diverged(points: list[LrPoint]) -> bool:
    """Return whether a test can end: the loss is far above its start, or was not finite several times."""
    loss_N = np.array([point.loss for point in points], dtype=np.float64)
    if len(loss_N) >= 5 and not np.isfinite(loss_N[-5:]).any():
        return True
    if len(loss_N) < _FEWEST or np.isfinite(loss_N).sum() < _FEWEST:
        return False
    smooth_N, noise = smoothed(loss_N)
    start = _level_at_start(loss_N)
    fallen = max(0.0, start - float(np.nanmin(smooth_N)))
    return bool(smooth_N[-1] > start + fallen + _margin(noise, start))


def smoothed(loss_N: Floats) -> tuple[Floats, float]:
    """Return the loss smoothed over a tenth of the test, centred, and the noise that is left.

    Values that are not finite are left out; the median of five comes first, so that single peaks count
    for nothing.
    """
    kept = np.isfinite(loss_N)
    out = np.full(len(loss_N), np.nan)
    values = loss_N[kept]
    if len(values) < 3:
        out[kept] = values
        return out, 0.0
    width = max(5, len(loss_N) // 10 | 1)
    kernel = np.hanning(width + 2)[1:-1]
    kernel /= kernel.sum()
    calm = _median_of_five(values)
    weights = np.convolve(np.ones(len(calm)), kernel, mode="same")
    out[kept] = np.convolve(calm, kernel, mode="same") / weights
    # The median of n deviates has a variance of pi / 2 n.
    at_start = np.pi / 2 / _num_at_start(len(loss_N))
    return out, noise_of(values) * float(np.sqrt((kernel**2).sum() + at_start))


def _margin(noise: float, level: float) -> float:
    return _CLEAR * noise + 1e-9 * abs(level)


def _num_at_start(updates: int) -> int:
    return max(5, updates // 10)


def _median_of_five(values: Floats) -> Floats:
    padded = np.pad(values, 2, mode="edge")
    stacked = np.stack([padded[i : i + len(values)] for i in range(5)])
    calm: Floats = np.median(stacked, axis=0)
    return calm


def _level_at_start(loss_N: Floats) -> float:
    return float(np.median(loss_N[np.isfinite(loss_N)][: _num_at_start(len(loss_N))]))


def _divergence(lr_N: Floats, smooth_N: Floats, *, best: int, above: float) -> float | None:
    """Return where, after its minimum, the loss has come back to where it began."""
    after = np.flatnonzero(smooth_N[best:] > above)
    return float(lr_N[best + after[0]]) if len(after) else None


def _first_bad(lr_N: Floats, loss_N: Floats) -> float | None:
    """Return where three updates in a row begin to be not finite."""
    bad = ~np.isfinite(loss_N)
    for index in range(len(bad) - 2):
        if bad[index : index + 3].all():
            return float(lr_N[index])
    return None


def _suggest(
    lr_N: Floats, smooth_N: Floats, *, best: int, start: float, divergence: float | None
) -> tuple[float, str]:
    middle = (start + float(smooth_N[best])) / 2
    above = np.flatnonzero(smooth_N[: best + 1] > middle)
    half, minimum = float(lr_N[above[-1] if len(above) else 0]), float(lr_N[best])
    where = f"the loss has half fallen at {_text(half)} and is lowest at {_text(minimum)}"
    caps = [(minimum / _BELOW_MINIMUM, "a third of where the loss is lowest")]
    if divergence is not None:
        caps.append((divergence / _BELOW_DIVERGENCE, "a tenth of where the loss diverges"))
    cap, why = min(caps)
    between = (half * minimum) ** 0.5
    if between <= cap:
        return _rounded(
            between
        ), f"halfway between the middle of the fall and the lowest loss: {where}"
    return _rounded(cap), f"{why}; {where}"


def _rounded(lr: float) -> float:
    return float(f"{lr:.1e}")


def _text(lr: float) -> str:
    return f"{lr:.2g}"
