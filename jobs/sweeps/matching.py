"""Runs of equal length: the number of updates of each variant, and the scaling of its clocks.

The rule: the first variant is the reference. The others have the same length, measured in the matched
quantity. Intervals (evaluation, checkpoints, logging) keep their fraction of the run, so that curves
have points at the same positions. With `scale_schedules`, so do warm-up, decay and EMA; without it
they stay unchanged, as when only the batch size is edited. A clock that a variant sets itself is never
scaled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from engine.config.errors import ConfigError, Problem
from engine.config.loading import load_config
from engine.config.schema import RunConfig
from engine.config.span import Span
from engine.data.update_size import mean_update_size, planned_size
from engine.training.schedules import total_updates
from jobs.sweeps.expand import Variant, put
from jobs.sweeps.experiment import Match

INTERVALS = (
    "validation.every",
    "validation.full_every",
    "checkpoint.every",
    "logging.every",
    "stop_when.patience",
    "stop_when.after",
)
SCHEDULES = (
    "schedule.warmup",
    "schedule.per",
    "schedule.milestones",
    "schedule.hold_for",
    "schedule.half_life",
    "ema.per",
    "ema.restart_at",
)

# Seconds per update of a config; None: unknown.
Speed = Callable[[RunConfig], float | None]


def match_lengths(
    variants: Sequence[Variant], match: Match, *, scale_schedules: bool, speed: Speed
) -> list[Variant]:
    """Return the variants with lengths and clocks according to the rule of this module.

    Raises:
        ConfigError: when a variant sets its own length, or a speed needed for matching is unknown.
    """
    if match == "none":
        return list(variants)
    problems = [
        f"variant {variant.name}: match = {match!r} computes schedule.length; set it for all "
        "variants, or use match = 'none'"
        for variant in variants
        if "schedule.length" in variant.own
    ]
    seconds = {variant.name: speed(variant.config) for variant in variants}
    if match == "wall_clock":
        problems += [
            f"variant {name}: speed unknown; `sepdash sweep --measure EXPERIMENT` measures it; or train a few "
            "updates (with the same model, batch, data format and precision), or match another quantity"
            for name, known in seconds.items()
            if known is None
        ]
    if problems:
        raise ConfigError(Problem("", text) for text in problems)
    keys = ("schedule.length", *INTERVALS, *(SCHEDULES if scale_schedules else ()))
    reference = variants[0].config
    result = []
    for variant in variants:
        ratio = 1.0
        if match == "wall_clock":
            own, first = seconds[variant.name], seconds[variants[0].name]
            assert own is not None
            assert first is not None
            total = total_updates(reference.schedule.length, planned_size(reference))
            ratio = max(1, round(total * first / own)) / total
        result.append(_stretched(variant, reference, match=match, ratio=ratio, keys=keys))
    return result


def _stretched(
    variant: Variant, reference: RunConfig, *, match: Match, ratio: float, keys: Sequence[str]
) -> Variant:
    values = dict(variant.values)
    for key in keys:
        if key in variant.own:
            continue
        section, _, name = key.partition(".")
        clock = getattr(getattr(variant.config, section), name)
        if isinstance(clock, Span):
            values = put(values, key, value=str(_convert(clock, reference, match, ratio)))
        elif clock:
            spans = [str(_convert(span, reference, match, ratio)) for span in clock]
            values = put(values, key, value=spans)
    return replace(variant, values=values, config=load_config(values))


def _convert(span: Span, reference: RunConfig, match: Match, ratio: float) -> Span:
    """Convert a span of the reference to the matched quantity."""
    if match in ("audio_seconds", "epochs"):
        size = mean_update_size(reference, epochs=match == "epochs")
    else:
        size = planned_size(reference)
    updates = size.updates_in(span)
    match match:
        case "items":
            return Span(_exact(updates * size.items), "items")
        case "audio_seconds":
            return Span(_exact(updates * size.audio_seconds), "audio_seconds")
        case "epochs":
            return Span(_exact(updates * size.epochs), "epochs")
        case _:
            return Span(_exact(updates * ratio), "updates")


def _exact(amount: float) -> float:
    """Round to twelve digits."""
    return float(f"{amount:.12g}")
