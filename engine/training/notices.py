"""What the training loop says of its end and of what happened on the way."""

from __future__ import annotations

import math

from engine.config.counters import Counters
from engine.events import Noticed, RunEnded
from engine.training.out_of_memory import Shortage
from engine.training.prepared import Setup
from engine.training.stopping import Stop


def stop_notice(stop: Stop, counters: Counters, *, metric: str, total: int) -> Noticed:
    """Return the notice of a rule that ends a run before its last update."""
    details: dict[str, float | int | str] = {"rule": stop.rule, "metric": metric}
    if math.isfinite(stop.value):
        details["value"] = stop.value
    text = f"stopped early at update {counters.updates} of {total}: {stop.text}"
    return Noticed("info", "stopped-early", message=text, counters=counters, details=details)


def shortage_notice(shortage: Shortage, counters: Counters) -> Noticed:
    """Return the notice of an update that memory ran out in."""
    text, details = shortage.message, shortage.details
    return Noticed("warning", "out-of-memory", message=text, counters=counters, details=details)


def ended(
    setup: Setup, counters: Counters, *, reason: str | None, stop: Stop | None = None
) -> RunEnded:
    """Report that the run is over, and return how; without a reason it has completed all updates."""
    if stop is not None:
        end = RunEnded("finished", counters, reason=f"stopped early: {stop.text}", early=True)
    elif reason is None:
        end = RunEnded("finished", counters, reason="all updates completed")
    else:
        end = RunEnded("stopped", counters, reason=reason)
    setup.emit(end)
    return end
