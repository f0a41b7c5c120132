"""The learning rate over a whole run, for inspection before it starts. Free of torch.

Owns the plotted curve of a schedule, and the warnings about schedules that are probably mistakes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from engine.config.counters import EpochsUnknown, UpdateSize
from engine.config.schema import RunConfig
from engine.config.sections import ScheduleConfig
from engine.training.schedules import lr_factor, total_updates
from engine.training.stopping import earliest_stop

# Below this fraction of its peak the learning rate has no effect.
_SPENT = 1e-3
_MOST_OF_THE_RUN = 0.9
# A decay of the learning rate by less than this matters little to the result.
_DECAYED = 0.5
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class ScheduleCurve:
    """The learning rate at some updates, numbered from 1, including the first and the last."""

    updates: list[int]
    lr: list[float]


def schedule_curve(
    config: RunConfig, *, size: UpdateSize | None = None, points: int = 2000
) -> ScheduleCurve:
    """Return the learning rate over the run, at most `points` + 1 values.

    Args:
        config: the run.
        size: of its updates; what the config alone says of it where left out.
        points: how many.

    Raises:
        EpochsUnknown: when the schedule counts epochs, and `size` doesn't know them.
    """
    return _curve(
        config.schedule, size or config.update_size, peak=config.optimizer.lr, points=points
    )


# The preset form asks again at each key press, mostly for the same curve.
@lru_cache(maxsize=8)
def _curve(
    schedule: ScheduleConfig, size: UpdateSize, *, peak: float, points: int
) -> ScheduleCurve:
    total = total_updates(schedule.length, size)
    numbers = [*range(1, total, -(-total // points)), total]
    lrs = [peak * lr_factor(schedule, size.after(number - 1), size=size) for number in numbers]
    return ScheduleCurve(numbers, lrs)


def schedule_warnings(config: RunConfig, *, size: UpdateSize | None = None) -> list[str]:
    """Return warnings about the learning rate of a run, one sentence each.

    Nothing is said of a schedule in epochs whose length `size` (see `schedule_curve`) doesn't know.
    """
    size = size or config.update_size
    try:
        curve = schedule_curve(config, size=size)
    except EpochsUnknown:
        return []
    total = curve.updates[-1]
    warmup = config.schedule.warmup
    risen = size.updates_in(warmup) if warmup is not None else 0.0
    if risen > total:
        return [f"schedule.warmup takes {risen:.0f} updates, but the run ends after {total}"]
    warnings: list[str] = []
    after = [(at, lr) for at, lr in zip(curve.updates, curve.lr, strict=True) if at >= risen]
    rises = [at for (_, before), (at, lr) in pairwise(after) if lr > before * (1 + _ROUNDING)]
    if rises:
        warnings.append(
            f"schedule.kind = {config.schedule.kind}: the learning rate increases after warm-up, first at update "
            f"{rises[0]} of {total}"
        )
    # Backwards from the end: the update after which the learning rate stays negligible.
    spent = total + 1
    for at, lr in reversed(after):
        if lr >= _SPENT * config.optimizer.lr:
            break
        spent = at
    if spent < _MOST_OF_THE_RUN * total:
        warnings.append(
            f"schedule.kind = {config.schedule.kind}: the learning rate is below {_SPENT:g} of its "
            f"peak from update {spent} of {total} onwards, so the last {1 - spent / total:.0%} of the "
            "run have almost no effect"
        )
    return warnings + _stop_warnings(config, size=size, curve=curve)


def _stop_warnings(config: RunConfig, *, size: UpdateSize, curve: ScheduleCurve) -> list[str]:
    """Warn where `stop_when` has no effect, or would cut the decay of the learning rate."""
    settings, total = config.stop_when, curve.updates[-1]
    if not settings.is_active:
        idle = settings != type(settings)()
        return ["stop_when has no effect: set its patience, target or reference"] if idle else []
    try:
        first = earliest_stop(settings, size, total=total)
        interval = size.updates_in(config.validation.every)
    except EpochsUnknown:
        return []
    if first >= total:
        return [
            f"stop_when has no effect: it may stop from update {first:.0f} on, but the run ends after {total}"
        ]
    warnings = []
    patience = settings.patience
    if patience is not None and size.updates_in(patience) < interval:
        warnings.append(
            f"stop_when.patience = {patience} is shorter than validation.every = "
            f"{config.validation.every}: one evaluation without improvement ends the run"
        )
    # From there on: a warm-up that goes on is no decay.
    left = [lr for at, lr in zip(curve.updates, curve.lr, strict=True) if at > first]
    factor = max(left, default=curve.lr[-1]) / config.optimizer.lr
    last = curve.lr[-1] / config.optimizer.lr
    if last < _DECAYED * factor:
        warnings.append(
            f"stop_when may end the run before its learning rate has decayed ({factor:.0%} of its peak after "
            f"{first:.0f} updates, {last:.0%} at the end), and so lose what the decay gains; give "
            "stop_when.after a later point, or choose a schedule that does not decay"
        )
    return warnings
