"""Writes the events of a run as lines of text, for its log file."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import TextIO

from engine.checkpoints.layout import best_metric
from engine.events import (
    CheckpointSaved,
    Evaluated,
    Event,
    Noticed,
    PointsRecorded,
    RunEnded,
    RunStarted,
    StageProgressed,
)
from engine.metrics.registry import LOSS, metric_of, stored_name, variant_of

_EVERY_S = 5.0
# Curves that a line about progress has no room for.
_LEFT_OUT = {"skipped", "audio_s_per_s", "loss_scale", "scale_backoffs"}


class LogSink:
    """An observer that prints to `stream`; progress lines at most every five seconds."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._total = 0
        self._next = 0.0
        # An ordered set: when saving is slow, the bests of two evaluations arrive together, and one
        # metric may be in both.
        self._best: dict[str, None] = {}

    def on_event(self, event: Event) -> None:
        """Handle one event; consecutive best checkpoints share a line, printed before the next event."""
        if isinstance(event, CheckpointSaved) and (metric := best_metric(event.kind)):
            self._best.setdefault(metric)
            return
        if self._best:
            self.say(f"saved the best checkpoint by {', '.join(self._best)}")
            self._best.clear()
        match event:
            case RunStarted():
                self._total = event.total_updates
                self.say(_describe_start(event))
            case StageProgressed():
                self._say_stage(event)
            case PointsRecorded():
                self._say_progress(event)
            case Evaluated():
                left_out = (
                    f", {event.num_excluded} excluded (silent, or nothing to restore)"
                    if event.num_excluded
                    else ""
                )
                if event.num_bad:
                    left_out += f", {event.num_bad} with non-finite output"
                word = "measured" if event.late else "evaluated"
                self.say(
                    f"update {event.counters.updates}: {word} {event.num_items} items"
                    f"{left_out} in {event.duration_s:.1f} s: {_list(_main(event.metrics), event.units)}"
                )
            case CheckpointSaved():
                size = event.size_bytes / 1e6
                self.say(f"update {event.counters.updates}: saved {event.kind} ({size:.1f} MB)")
            case Noticed():
                self.say(f"{event.level}: {event.message}")
            case RunEnded():
                self.say(f"{event.outcome} at update {event.counters.updates}: {event.reason}")

    def say(self, text: str) -> None:
        """Print one line with the time; a line that can't be written, on a full disk, is dropped."""
        with contextlib.suppress(OSError):
            print(time.strftime("%H:%M:%S"), text, file=self._stream, flush=True)

    def _say_stage(self, event: StageProgressed) -> None:
        now, is_last = time.monotonic(), event.done >= event.total
        if event.saved or (now < self._next and event.done > 0 and not is_last):
            return
        self._next = now + _EVERY_S
        of = f" ({event.number} of {event.count})" if event.count > 1 else ""
        self.say(f"{event.text}{of}: {event.done} of {event.total} steps")

    def _say_progress(self, event: PointsRecorded) -> None:
        now = time.monotonic()
        done = event.counters.updates >= self._total
        if now < self._next and not done:
            return
        self._next = now + _EVERY_S
        latest = {name: float(values[-1]) for name, values in event.series.items() if len(values)}
        speed = latest.pop("updates_per_s", math.nan)
        eta = ""
        if speed > 0:
            left = timedelta(seconds=round((self._total - event.counters.updates) / speed))
            eta = f", {speed:.3g} updates/s, {left} left"
        shown = {name: value for name, value in latest.items() if name not in _LEFT_OUT}
        self.say(f"update {event.counters.updates}/{self._total}: {_list(shown, event.units)}{eta}")


def _describe_start(event: RunStarted) -> str:
    begin = f"resumed after update {event.resumed_from}" if event.resumed_from else "started"
    return (
        f"{begin} on {event.device}: {event.num_parameters / 1e6:.2f} M parameters, "
        f"{event.num_train_items} training and {event.num_valid_items} validation items, "
        f"{event.total_updates} updates"
    )


def _main(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the metrics to print; the store contains all of them."""
    shown = {name: value for name, value in metrics.items() if _is_main(name)}
    return shown or dict(metrics)


def _is_main(name: str) -> bool:
    """Return whether a line has room for a metric; of training items that is the loss of the weights alone."""
    return metric_of(name).is_main and (
        not variant_of(name).train or name == stored_name(LOSS, train=True)
    )


def _list(values: Mapping[str, float], units: Mapping[str, str]) -> str:
    return ", ".join(
        f"{name} {value:.2%}"
        if metric_of(name).is_rate
        else f"{name} {value:.4g}{' ' + unit if (unit := units.get(name, '')) else ''}"
        for name, value in values.items()
    )
