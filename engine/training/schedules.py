"""When things happen and how fast the model learns: pure functions of the counters.

Every clock of the config is turned into updates here, by the size of one update. Nothing in this
module holds state, so a resumed run is on schedule by construction.
"""

from __future__ import annotations

from math import ceil, cos, floor, pi, sqrt

from engine.config.counters import Counters, UpdateSize
from engine.config.sections import EmaConfig, ScheduleConfig
from engine.config.span import Span

# Clocks are real numbers of updates; a boundary missed by rounding alone still counts as reached.
_TOLERANCE = 1e-9


def total_updates(length: Span, size: UpdateSize) -> int:
    """Return the number of updates that first reaches `length`, at least 1."""
    return max(1, ceil(size.updates_in(length) - _TOLERANCE))


def is_due(every: Span, update: int, size: UpdateSize) -> bool:
    """Tell whether update number `update` (from 1) is the first to reach a multiple of `every`."""
    period = size.updates_in(every)
    if period <= 1:
        return True
    return floor(update / period + _TOLERANCE) > floor((update - 1) / period + _TOLERANCE)


def lr_factor(config: ScheduleConfig, counters: Counters, size: UpdateSize) -> float:
    """Return the learning rate over its peak for the update that follows `counters`.

    Warm-up rises linearly: update k of W has k / W. The decay starts where warm-up ends. What falls
    over the run falls to `final_ratio` at its end and stays there; what halves stops there. The inverse square root is that
    of updates over the length of the warm-up (Vaswani et al., 2017).
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
    return config.final_ratio + (1 - config.final_ratio) * _fall(config, share)


def _fall(config: ScheduleConfig, share: float) -> float:
    """Return how much of the fall from 1 to 0 is left at `share` of the decay."""
    if config.kind == "linear":
        return 1 - share
    if config.kind == "hold_decay":
        return min(1.0, (1 - share) / (1 - config.hold))
    if config.kind == "cosine_restarts" and share < 1:
        share = share * config.cycles % 1
    return 0.5 * (1 + cos(pi * share))


def ema_restart(config: EmaConfig, size: UpdateSize) -> int:
    """Return the update after which the average starts again; 0 where it never does."""
    return total_updates(config.restart_at, size) if config.restart_at is not None else 0


def ema_decay(config: EmaConfig, update: int, size: UpdateSize) -> float:
    """Return the share of the old average that update number `update` (from 1) keeps.

    The decay of one count is min(decay, (1 + n) / (10 + n)), n counts after the start or restart; a
    count is `config.per`, so an update that spans c counts keeps that share to the power of c.
    """
    restart = ema_restart(config, size)
    period = size.updates_in(config.per)
    counts = (update - (restart if update > restart else 0)) / period
    decay = min(config.decay, (1 + counts) / (10 + counts))
    return float(decay ** (1 / period))
