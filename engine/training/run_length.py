"""How long a run is, in all of its counters, before it starts; free of torch.

A span in epochs becomes updates by exact arithmetic: N epochs of items are N times as many updates as an epoch
has, rounded up to a whole one. In mode exact no batch is partial: an update takes what the end of an epoch
leaves from the next one, so only the last update of a run may go beyond what was asked for, by less than itself. In
the other modes an epoch is a whole number of updates, and `batch.tail` says what becomes of what is left over.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

from engine.config.counters import Counters, EpochsUnknown, UpdateSize
from engine.config.errors import counted
from engine.config.schema import RunConfig
from engine.config.span import Span
from engine.training.schedules import total_updates

# From this share of all items on, an update is most of the data.
_LARGE_SHARE = 0.5
_MILESTONES = "schedule.milestones"


@dataclass(frozen=True, slots=True)
class RunLength:
    """What a run comes to.

    Attributes:
        asked: `schedule.length`.
        exact: the same in updates, as a real number.
        end: the counters after the last update; epochs are 0, and seconds NaN, where they are unknown.
    """

    asked: Span
    exact: float
    end: Counters

    @property
    def text(self) -> str:
        """The length in words: what was asked for, then updates, items, hours of audio and epochs."""
        end = self.end
        rounded = "" if self.exact == end.updates else f" ({self.exact:,.2f}, rounded up)"
        parts = [f"{counted(end.updates, 'update')}{rounded}", counted(end.items, "item")]
        if isfinite(end.audio_seconds):
            parts.append(_audio(end.audio_seconds))
        if end.epochs:
            parts.append(f"{end.epochs:,.6g} epochs")
        text = ", ".join(parts)
        return text if self.asked.clock == "updates" else f"{self.asked} = {text}"


def run_length(config: RunConfig, size: UpdateSize) -> RunLength:
    """Return the length of a run whose updates are of a size on average.

    Raises:
        EpochsUnknown: when it is in epochs, and `size` doesn't know them.
    """
    asked = config.schedule.length
    exact = size.updates_in(asked)
    return RunLength(asked, exact, size.after(total_updates(asked, size)))


def length_warnings(config: RunConfig, size: UpdateSize) -> list[str]:
    """Return warnings about spans that make no sense with so much data, one sentence each."""
    try:
        length = run_length(config, size)
    except EpochsUnknown:
        return []
    total = length.end.updates
    warnings = []
    if size.epochs >= _LARGE_SHARE:
        items = round(size.items / size.epochs)
        asked = (
            length.asked if length.asked.clock == "epochs" else f"{length.end.epochs:,.6g} epochs"
        )
        warnings.append(
            f"{counted(items, 'training item')}: {asked} are {counted(total, 'update')}, since an update of "
            f"{size.items:,.0f} items is {_share(size.epochs)} them; lower batch.items for more updates"
        )
    # Of other clocks a person has counted; how many updates an epoch has depends on the data.
    in_epochs = length.asked.clock == "epochs"
    warnings += [
        f"{name} = {span} is update {size.updates_in(span):,.0f}, but the run ends after {total:,}"
        for name, span in _points(config)
        if (in_epochs or span.clock == "epochs" or name == _MILESTONES)
        and _known(span, size)
        and size.updates_in(span) >= total
    ]
    intervals = {
        "validation.every": config.validation.every, "checkpoint.every": config.checkpoint.every,
    }  # fmt: skip
    warnings += [
        f"{name} = {every} is longer than the run ({counted(total, 'update')}), so nothing happens before its end"
        for name, every in intervals.items()
        if (in_epochs or every.clock == "epochs")
        and _known(every, size)
        and size.updates_in(every) > total
    ]
    return warnings


def _points(config: RunConfig) -> list[tuple[str, Span]]:
    """Return the settings that name a point of a run at which something changes."""
    schedule, ema, tuning = config.schedule, config.ema, config.fine_tuning
    found: list[tuple[str, Span | None]] = [
        ("ema.restart_at", ema.restart_at if ema.enabled else None),
        ("fine_tuning.thaw_extractor_at", tuning.thaw_extractor_at),
    ]
    if schedule.kind == "multi_step":
        found += [(_MILESTONES, at) for at in schedule.milestones]
    return [(name, span) for name, span in found if span is not None]


def _known(span: Span, size: UpdateSize) -> bool:
    return span.clock != "epochs" or bool(size.epochs)


def _share(epochs: float) -> str:
    if epochs > 1:
        return f"{epochs:.3g} passes over"
    return "all of" if epochs == 1 else f"{epochs:.0%} of"


def _audio(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:,.1f} s of audio"
    return (
        f"{seconds / 60:,.1f} min of audio"
        if seconds < 7200
        else f"{seconds / 3600:,.1f} h of audio"
    )
