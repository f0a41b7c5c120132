"""When things happen and how fast the model learns: pure functions of the counters.

Every clock of the config is turned into updates here, by the size of one update. Nothing in this
module holds state, so a resumed run is on schedule by construction.
"""

from __future__ import annotations

from math import ceil, cos, floor, pi

from engine.config.sections import EmaConfig, ScheduleConfig
from engine.config.span import Span
from engine.counters import Counters, UpdateSize

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

    Warm-up rises linearly: update k of W has k / W. The decay starts where warm-up ends. The cosine
    goes one way, from 1 down to `final_ratio` at the end of the run, and stays there.
    """
    done = counters.updates
    warmup = size.updates_in(config.warmup) if config.warmup is not None else 0.0
    if done + 1 < warmup:
        return (done + 1) / warmup
    if config.kind == "constant":
        return 1.0
    since = max(0.0, done - warmup)
    if config.kind == "exponential":
        return float(config.gamma ** (since / size.updates_in(config.per)))
    span = max(1.0, size.updates_in(config.length) - warmup)
    share = min(1.0, since / span)
    return config.final_ratio + (1 - config.final_ratio) * 0.5 * (1 + cos(pi * share))


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
