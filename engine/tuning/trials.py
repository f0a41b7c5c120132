"""Requests to a trial and its answers. Free of torch: the trial runs in a child process.

Letters: B items. Bytes, seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Outcome = Literal["measured", "over", "oom", "failed", "timeout"]


@dataclass(frozen=True, slots=True)
class Case:
    """One measurement: a config with micro-batches of `count` items of `shape`.

    Attributes:
        values: the config, as in a preset.
        count: B, items of a micro-batch.
        shape: padded size of every item, as in `MicroBatch`; empty where all have the same size.
        micro_batches: number of micro-batches per update.
    """

    values: Mapping[str, Any]
    count: int
    shape: tuple[float, ...] = ()
    micro_batches: int = 1


@dataclass(frozen=True, slots=True)
class Job:
    """Cases that one child measures side by side.

    Attributes:
        cases: each alone for its memory, then all in turn, round by round, for their time.
        device: auto, cpu, cuda or cuda:N.
        timing_s: total timing of each case; 0: memory only.
        budget_bytes: a case that needs more is not timed.
        limit_bytes: allocation limit of the child on a CPU.
        survey: also report facts about the network.
        sizes: also report the sizes of the training items, which requires reading the data.
    """

    cases: tuple[Case, ...]
    device: str
    timing_s: float = 0.0
    budget_bytes: int | None = None
    limit_bytes: int | None = None
    survey: bool = False
    sizes: bool = False


@dataclass(frozen=True, slots=True)
class Measured:
    """The answer to one case.

    Attributes:
        outcome: measured; over the budget (not timed); out of memory; failed; or timed out.
        peak_bytes: peak over forward, backward and optimizer, including weights and all state.
        update_s: seconds of an update in each round of timing.
        optimizer_s: the part of it after the last backward pass.
        message: the error.
    """

    outcome: Outcome
    peak_bytes: int = 0
    update_s: tuple[float, ...] = ()
    optimizer_s: float = 0.0
    message: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """Facts about the device and the config, reported by a child.

    Attributes:
        device: its type, cpu or cuda.
        device_name: product name.
        total_bytes: memory of the device.
        free_bytes: memory not in use, before the child allocates anything.
        own_bytes: memory of the child itself before it builds anything.
        formats: number formats to try: fp32, tf32, bf16, fp16.
        has_2d: the network has weights of four dimensions.
        can_compile: a compiler for this device is installed.
        lengths_s: shortest, middle and longest training item, increasing, where they differ in length;
            the middle one is the median, or the midpoint where the median is too near an end.
        tokens: for each of the three, the maximum tokens of items up to that length.
        mean_s: mean length of the training items.
        mean_tokens: mean number of their tokens.
        num_items: number of training items.
    """

    device: str
    device_name: str
    total_bytes: int
    free_bytes: int
    own_bytes: int
    formats: tuple[str, ...] = ("fp32",)
    has_2d: bool = False
    can_compile: bool = False
    lengths_s: tuple[float, ...] = ()
    tokens: tuple[float, ...] = ()
    mean_s: float = 0.0
    mean_tokens: float = 0.0
    num_items: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a job: one entry for each case, in order; facts if a child reported them.

    `problem` is a user error that prevents all measurements.
    """

    cases: tuple[Measured, ...]
    facts: Facts | None = None
    problem: str = ""


class Measurer(Protocol):
    """Measures jobs: in a child process (`engine.tuning.children`), or by arithmetic in tests."""

    def measure(self, job: Job, *, timeout_s: float) -> Answer:
        """Return an answer for every case, whatever happens to the child."""
