"""Speed and size of earlier runs, from which a plan is estimated."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.config.kinds import has_segments
from engine.config.schema import RunConfig
from jobs.store.reader import StoreReader

# The settings that determine the time of an update, and the size of the checkpoints.
_OF_SPEED = (
    "model",
    "batch",
    "loss",
    "precision",
    "ema.enabled",
    "data.kind",
    "data.rate_hz",
    "data.channels",
    "data.segment_s",
    "data.max_s",
    "data.num_mels",
    "data.tokens",
    "data.vocab_size",
)
_OF_SIZE = ("model", "ema.enabled", "checkpoint.keep_last", "checkpoint.best", "data.channels")


@dataclass(frozen=True, slots=True)
class Measured:
    """Seconds per update and bytes on disk, by the settings they depend on."""

    seconds: Mapping[str, float]
    sizes: Mapping[str, int]

    @classmethod
    def of(cls, reader: StoreReader) -> Measured:
        """Read them from the runs of a store; of equal runs the longest counts.

        A short run is mostly startup and evaluations.
        """
        seconds: dict[str, float] = {}
        sizes: dict[str, int] = {}
        for run in sorted(reader.runs(), key=lambda run: run.updates):
            if not run.updates or not run.train_seconds:
                continue
            config = reader.config(run.id)
            seconds[_key(config, _of_speed(config))] = run.train_seconds / run.updates
            if size := sum(item.size_bytes for item in reader.checkpoints(run.id)):
                sizes[_key(config, _OF_SIZE)] = size
        return cls(seconds, sizes)

    def seconds_per_update(self, config: RunConfig) -> float | None:
        """Return the seconds per update, including evaluations and saving; None when unknown."""
        values = config.to_dict()
        return self.seconds.get(_key(values, _of_speed(values)))

    def size_bytes(self, config: RunConfig) -> int | None:
        """Return the bytes of a run's checkpoints; None when unknown."""
        return self.sizes.get(_key(config.to_dict(), _OF_SIZE))


def _of_speed(config: Mapping[str, Any]) -> tuple[str, ...]:
    # Utterances vary in length with the data; segments have one length whatever the files.
    return _OF_SPEED if has_segments(config) else (*_OF_SPEED, "data.train")


def _key(config: Mapping[str, Any], names: tuple[str, ...]) -> str:
    picked = []
    for name in names:
        value: Any = config
        for part in name.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        picked.append(value)
    return json.dumps(picked, sort_keys=True)
