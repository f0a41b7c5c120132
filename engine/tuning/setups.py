"""Setups of a search, its options and its result. Free of torch.

Letters: B items of a micro-batch, G items of an update, n micro-batches of an update.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import ceil
from statistics import median
from typing import Any

from engine.config.overrides import config_with
from engine.tuning.race import Ratio
from engine.tuning.trials import Case, Measured, Part


@dataclass(frozen=True, slots=True)
class Options:
    """The user's options of a search.

    Attributes:
        items: G, items of an update; or
        seconds: audio seconds of an update; or
        tokens: tokens of an update; none of the three: as in the config.
        free: fraction of the memory to keep free.
        budget_s: time limit of the search.
        memory_bytes: memory limit; None: available memory minus a reserve.
        compile: try `torch.compile`; None: only on a GPU with a compiler.
        keep: settings that stay unchanged.
        device: auto, cpu, cuda or cuda:N.
    """

    items: int | None = None
    seconds: float | None = None
    tokens: float | None = None
    free: float = 0.08
    budget_s: float = 300.0
    memory_bytes: int | None = None
    compile: bool | None = None
    keep: tuple[str, ...] = ()
    device: str = "auto"


@dataclass(frozen=True, slots=True)
class Setup:
    """One way to run the updates of a config.

    Attributes:
        label: what distinguishes it.
        values: the whole config, as in a preset.
        count: B, items per micro-batch.
        goal: G, items of an update on one device.
        shape: padded size of each item; empty where all have the same size.
        changes: its settings that differ from the preset, by dotted key.
        mix: what its updates are made of where items differ in length; empty: of `count` items of `shape`.
    """

    label: str
    values: Mapping[str, Any]
    count: int
    goal: float
    shape: tuple[float, ...] = ()
    changes: Mapping[str, Any] = field(default_factory=dict)
    mix: tuple[Part, ...] = ()

    @property
    def micro_batches(self) -> int:
        """n: the number of micro-batches of an update."""
        return max(1, -(-ceil(self.goal) // self.count))

    @property
    def case(self) -> Case:
        """The case to measure."""
        return Case(
            self.values,
            self.count,
            shape=self.shape,
            micro_batches=self.micro_batches,
            mix=self.mix,
        )

    def items_per_s(self, measured: Measured) -> float:
        """Return items per second, from the median time of an update; 0 where it was not timed."""
        return self.goal / median(measured.update_s) if measured.update_s else 0.0

    def at(self, shape: tuple[float, ...]) -> Setup:
        """Return the setup with items of another size, to measure memory."""
        return replace(self, shape=shape, mix=())

    def changed(self, label: str, changes: Mapping[str, Any], *, count: int | None = None) -> Setup:
        """Return the setup with some settings changed.

        Raises:
            ConfigError: when they are incompatible.
        """
        assignments = [f"{key}={write_value(value)}" for key, value in changes.items()]
        values = config_with(self.values, assignments).to_dict()
        merged = {**self.changes, **changes}
        count = self.count if count is None else count
        return replace(self, label=label, values=values, changes=merged, count=count)


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table of trials.

    Attributes:
        label: the setup.
        count: B.
        micro_batches: n.
        shape: padded size of each item; empty where all have the same size.
        peak_bytes: peak memory; 0: unknown.
        items_per_s: items per second; 0: not timed.
        audio_s_per_s: seconds of audio per second.
        ratio: speed relative to the unchanged preset; None: unknown.
        verdict: the decision and its reason.
    """

    label: str
    count: int
    micro_batches: int
    shape: tuple[float, ...]
    peak_bytes: int
    items_per_s: float
    audio_s_per_s: float
    ratio: Ratio | None
    verdict: str


@dataclass(frozen=True, slots=True)
class Scaled:
    """One way to share updates among devices.

    Attributes:
        devices: how many.
        micro_batches: k, accumulated on each before gradients are summed.
        items: items of an update, over all devices.
        items_per_s: items per second.
        ratio: speed relative to one device; None: unknown.
    """

    devices: int
    micro_batches: int
    items: int
    items_per_s: float
    ratio: Ratio | None


@dataclass(frozen=True, slots=True)
class Tuning:
    """The result of a search.

    Attributes:
        device_name: the device.
        cap_bytes: memory available to training.
        budget_bytes: memory that training may use, with the requested fraction kept free.
        goal_items: G, of one device.
        micro_batches: n of the selected setup.
        rows: all trials, in order.
        settings: the settings to change, by dotted key.
        peak_bytes: peak memory of the selected setup.
        items_per_s: its speed.
        audio_s_per_s: its speed in seconds of audio per second.
        ratio: its speed relative to the unchanged preset; None: the preset can't run, or is unchanged.
        law_error: predicted over measured peak, minus 1, of the largest checked batch; None where it ran
            in another number format than the probes.
        seconds: duration of the search.
        data: what was timed: the distribution of lengths, in words.
        count: B of the selected setup.
        shape: size of its items; empty where all have the same size.
        scaling: how fast several devices are; empty for one.
        notes: messages for the user.
    """

    device_name: str
    cap_bytes: int
    budget_bytes: int
    goal_items: float
    micro_batches: int
    rows: tuple[Row, ...]
    settings: dict[str, Any]
    peak_bytes: int
    items_per_s: float
    audio_s_per_s: float
    ratio: Ratio | None
    law_error: float | None
    seconds: float
    data: str = ""
    count: int = 0
    shape: tuple[float, ...] = ()
    scaling: tuple[Scaled, ...] = ()
    notes: tuple[str, ...] = ()


class TuningError(ValueError):
    """A search that can't produce a result; the message gives the reason."""


def write_value(value: Any) -> str:
    """Return a value in the syntax of `--set`."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(write_value(item) for item in value)}]"
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)
