"""Runs of equal length: how many updates each variant gets, and how its clocks are stretched.

The rule. The first variant is the reference. Another one is as long as it, counted in what is
matched. Intervals (evaluation, checkpoints, logging) keep their share of the run, so that curves have
points at the same places. With `scale_schedules` warm-up, decay and the average of the weights do so,
too; without it they stay as they are written, as when a batch is made larger by hand. A clock that a
variant sets itself is left alone.
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

INTERVALS = ("validation.every", "validation.full_every", "checkpoint.every", "logging.every")
SCHEDULES = (
    "schedule.warmup",
    "schedule.per",
    "schedule.milestones",
    "schedule.hold_for",
    "schedule.half_life",
    "ema.per",
    "ema.restart_at",
)

# Seconds that one update of a config takes; None where nobody knows.
Speed = Callable[[RunConfig], float | None]


def match_lengths(
    variants: Sequence[Variant], match: Match, *, scale_schedules: bool, speed: Speed
) -> list[Variant]:
    """Return the variants with the lengths and clocks that the rule of this module gives them.

    Raises:
        ConfigError: when a variant sets its length itself, or no speed is known to match by.
    """
    if match == "none":
        return list(variants)
    problems = [
        f"variant {variant.name}: schedule.length is computed where match = {match!r}; set it for "
        "all, or use match = 'none'"
        for variant in variants
        if "schedule.length" in variant.own
    ]
    seconds = {variant.name: speed(variant.config) for variant in variants}
    if match == "wall_clock":
        problems += [
            f"variant {name}: its speed is not known; train a few updates of it first (a run of the "
            "same model, batch, data format and precision), or match something else"
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
        found = getattr(getattr(variant.config, section), name)
        if isinstance(found, Span):
            values = put(values, key, str(_convert(found, reference, match, ratio)))
        elif found:
            spans = [str(_convert(span, reference, match, ratio)) for span in found]
            values = put(values, key, spans)
    return replace(variant, values=values, config=load_config(values))


def _convert(span: Span, reference: RunConfig, match: Match, ratio: float) -> Span:
    """Return what `span` means to the reference, counted in what is matched."""
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
    """Drop what rounding adds beyond the twelfth digit."""
    return float(f"{amount:.12g}")
