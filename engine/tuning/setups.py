"""What a search tries and what comes of it. Free of torch.

Letters: B items of a micro-batch, G items of an update, n micro-batches of an update.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import ceil
from statistics import median
from typing import Any

from engine.config.overrides import config_with
from engine.tuning.trials import Case, Measured

# More micro-batches than this tell nothing new: the rest of an update repeats the second one.
_MOST_MEASURED = 2


@dataclass(frozen=True, slots=True)
class Options:
    """What a person asks of a search.

    Attributes:
        items: G, items of an update; or
        seconds: audio seconds of an update; or
        tokens: tokens of an update; none of the three: what the config says.
        free: share of the memory that stays free.
        budget_s: how long the search may take.
        memory_bytes: memory to stay within; None: what is there, less a reserve.
        compile: try `torch.compile`; None: where it pays and a compiler is there, on a GPU.
        keep: settings that stay as they are.
        device: auto, cpu, cuda or cuda:N.
    """

    items: int | None = None
    seconds: float | None = None
    tokens: float | None = None
    free: float = 0.08
    budget_s: float = 120.0
    memory_bytes: int | None = None
    compile: bool | None = None
    keep: tuple[str, ...] = ()
    device: str = "auto"


@dataclass(frozen=True, slots=True)
class Setup:
    """One way to run the updates of a config.

    Attributes:
        label: what is different about it.
        values: the whole config, as a preset holds it.
        count: B, items on the device at once.
        goal: G, items of an update, of one device.
        shape: padded size of each item; empty where all have one size.
        changes: its settings that are not those of the preset, by dotted key.
    """

    label: str
    values: Mapping[str, Any]
    count: int
    goal: float
    shape: tuple[float, ...] = ()
    changes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def micro_batches(self) -> int:
        """n: how many micro-batches form an update."""
        return max(1, -(-ceil(self.goal) // self.count))

    @property
    def case(self) -> Case:
        """What to measure of it."""
        return Case(self.values, self.count, self.shape, min(self.micro_batches, _MOST_MEASURED))

    def update_s(self, measured: Measured) -> tuple[float, ...]:
        """Return the seconds of a whole update in each round of timing."""
        n, m = self.micro_batches, self.case.micro_batches
        optimizer = measured.optimizer_s
        return tuple(max(s - optimizer, 0.0) * n / m + optimizer for s in measured.update_s)

    def items_per_s(self, measured: Measured) -> float:
        """Return the items of an update over the median of its seconds; 0 where it was not timed."""
        times = self.update_s(measured)
        return self.goal / median(times) if times else 0.0

    def at(self, shape: tuple[float, ...]) -> Setup:
        """Return the same with items of another size."""
        return replace(self, shape=shape)

    def changed(self, label: str, changes: Mapping[str, Any], *, count: int | None = None) -> Setup:
        """Return the same with some settings put in place.

        Raises:
            ConfigError: when they don't go together.
        """
        assignments = [f"{key}={write_value(value)}" for key, value in changes.items()]
        values = config_with(self.values, assignments).to_dict()
        merged = {**self.changes, **changes}
        count = self.count if count is None else count
        return replace(self, label=label, values=values, changes=merged, count=count)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table of what was tried.

    Attributes:
        label: what was tried.
        count: B.
        micro_batches: n.
        shape: padded size of each item; empty where all have one size.
        peak_bytes: memory at the peak; 0: unknown.
        items_per_s: items in a second; 0: not timed.
        audio_s_per_s: seconds of audio in a second.
        ratio: its speed over that of the preset as it is; 0: unknown.
        verdict: what was decided, and why.
    """

    label: str
    count: int
    micro_batches: int
    shape: tuple[float, ...]
    peak_bytes: int
    items_per_s: float
    audio_s_per_s: float
    ratio: float
    verdict: str


@dataclass(frozen=True, slots=True)
class Tuning:
    """What a search found.

    Attributes:
        device_name: where.
        cap_bytes: memory that training may count on.
        budget_bytes: what it may take, with the declared share left free.
        goal_items: G, of one device.
        micro_batches: n of the chosen way.
        rows: everything that was tried, in order.
        settings: what to set, by dotted key.
        peak_bytes: memory of the chosen way at its peak.
        items_per_s: its speed.
        audio_s_per_s: its speed in seconds of audio.
        ratio: its speed over that of the preset as it is; 0: that could not be run.
        law_error: predicted over measured peak, less 1, of the largest batch that was checked; None where
            that ran in another number format than the probes.
        seconds: how long the search took.
        notes: what a person should know.
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
    ratio: float
    law_error: float | None
    seconds: float
    notes: tuple[str, ...] = ()


class TuningError(ValueError):
    """A search that can't find anything; says what stands in its way."""


def write_value(value: Any) -> str:
    """Return a value as `--set` reads it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(write_value(item) for item in value)}]"
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)


def speed_ratio(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Return how much faster `one` is: the median over rounds run in turn; 0 where one is unknown."""
    pairs = list(zip(one, other, strict=False))
    return median(b / a for a, b in pairs) if pairs else 0.0
