"""Intervals, learning rate and EMA decay: pure functions of the counters.

Every clock of the config is converted to updates here, by the size of one update. Nothing in this
module holds state, so a resumed run follows the same schedule by construction.
"""

from __future__ import annotations

from math import ceil, cos, floor, pi, sqrt

from engine.config.counters import Counters, UpdateSize
from engine.config.sections import EmaConfig, ScheduleConfig
from engine.config.span import Span

# Clocks are real numbers of updates; a boundary missed by rounding alone still counts as reached.
_TOLERANCE = 1e-9
# Of a quotient of quotients, relative to it: 58 million updates would be one too many.
_ROUNDING = 1e-14


def total_updates(length: Span, size: UpdateSize) -> int:
    """Return the number of updates that first reaches `length`, at least 1."""
    updates = size.updates_in(length)
    return max(1, ceil(updates - max(_TOLERANCE, _ROUNDING * updates)))


def is_due(every: Span, update: int, *, size: UpdateSize) -> bool:
    """Return whether update number `update` (from 1) is the first to reach a multiple of `every`."""
    period = size.updates_in(every)
    if period <= 1:
        return True
    return floor(update / period + _TOLERANCE) > floor((update - 1) / period + _TOLERANCE)


def lr_factor(config: ScheduleConfig, counters: Counters, *, size: UpdateSize) -> float:
    """Return the learning rate, relative to its peak, of the update that follows `counters`.

    Warm-up is linear: update k of W has k / W. The decay starts at the end of warm-up. Schedules that
    decay over the length of the run reach `final_ratio` at its end and stay there; `hold_exponential`
    never goes below it. The inverse square root is that of updates over warm-up length (Vaswani et
    al., 2017).
    """
    done = counters.updates
    warmup = size.updates_in(config.warmup) if config.warmup is not None else 0.0
    if done + 1 < warmup:
        return (done + 1) / warmup
    since = max(0.0, done - warmup)
    match config.kind:
        case "constant":
            return 1.0
        case "exponential":
            return float(config.gamma ** (since / size.updates_in(config.per)))
        case "inverse_sqrt":
            return sqrt(max(1.0, warmup) / max(1.0, warmup, done))
        case "multi_step":
            passed = [done + _TOLERANCE >= size.updates_in(at) for at in config.milestones]
            return float(config.factor ** sum(passed))
        case "hold_exponential":
            hold = size.updates_in(config.hold_for) if config.hold_for is not None else 0.0
            halvings = max(0.0, since - hold) / size.updates_in(config.half_life)
            return float(max(config.final_ratio, 0.5**halvings))
    share = min(1.0, since / max(1.0, size.updates_in(config.length) - warmup))
    peak, fall = _fall(config, share)
    return config.final_ratio + (peak - config.final_ratio) * fall


def _fall(config: ScheduleConfig, share: float) -> tuple[float, float]:
    """Return the peak that the decay fell from, and what is left of it, 1 to 0, after `share` of its length."""
    if config.kind == "linear":
        return 1.0, 1 - share
    if config.kind == "hold_decay":
        return 1.0, min(1.0, (1 - share) / (1 - config.hold))
    if config.kind != "cosine_restarts":
        return 1.0, 0.5 * (1 + cos(pi * share))
    # A restart that rounding alone puts after its update would cost that update its peak.
    cycle = min(floor(share * config.cycles + _TOLERANCE), config.cycles - 1)
    inside = max(0.0, share * config.cycles - cycle)
    peak = config.peaks[cycle] if config.peaks else 1.0
    return peak, 0.5 * (1 + cos(pi * inside))


def ema_restart(config: EmaConfig, size: UpdateSize) -> int:
    """Return the update after which the average restarts; 0: never."""
    return total_updates(config.restart_at, size) if config.restart_at is not None else 0


def ema_decay(config: EmaConfig, update: int, *, size: UpdateSize) -> float:
    """Return the weight of the old average at update number `update` (from 1).

    The decay of one count is min(decay, (1 + n) / (10 + n)), n counts after the start or restart. One
    count is `config.per`; an update that spans c counts applies the decay to the power of c.
    """
    restart = ema_restart(config, size)
    period = size.updates_in(config.per)
    counts = (update - (restart if update > restart else 0)) / period
    decay = min(config.decay, (1 + counts) / (10 + counts))
    return float(decay ** (1 / period))
