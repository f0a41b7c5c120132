"""Requests to a trial and its answers. Free of torch: the trial runs in a child process.

Letters: B items. Bytes, seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Outcome = Literal["measured", "over", "oom", "failed", "timeout"]


@dataclass(frozen=True, slots=True)
class Part:
    """Micro-batches of one size in an update.

    Attributes:
        count: B, items of a micro-batch.
        shape: padded size of every item, as in `MicroBatch`; empty where all have the same size.
        micro_batches: how many an update has of them, on average.
    """

    count: int
    shape: tuple[float, ...] = ()
    micro_batches: float = 1.0


@dataclass(frozen=True, slots=True)
class Case:
    """One measurement: a config with micro-batches of `count` items of `shape`.

    Attributes:
        values: the config, as in a preset.
        count: B, items of the micro-batches whose memory is measured.
        shape: padded size of every item, as in `Part`.
        micro_batches: number of micro-batches per update; two show the peak of any more.
        mix: what an update is made of, for its time; empty: of `micro_batches` of the above.
    """

    values: Mapping[str, Any]
    count: int
    shape: tuple[float, ...] = ()
    micro_batches: int = 1
    mix: tuple[Part, ...] = ()

    @property
    def parts(self) -> tuple[Part, ...]:
        """What an update is made of."""
        return self.mix or (Part(self.count, self.shape, self.micro_batches),)


@dataclass(frozen=True, slots=True)
class Job:
    """Cases that one child measures side by side.

    Attributes:
        cases: each alone for its memory, then all in turn, round by round, for their time.
        device: auto, cpu, cuda or cuda:N.
        timing_s: time limit of the race of all cases; 0: memory only.
        reference: index of the case that the others are compared with; None: there is none.
        may_keep: the reference can be chosen; otherwise it is only timed.
        budget_bytes: a case that needs more is not timed.
        limit_bytes: allocation limit of the child on a CPU.
        survey: also report facts about the network.
        sizes: also report the sizes of the training items, which requires reading the data.
    """

    cases: tuple[Case, ...]
    device: str
    timing_s: float = 0.0
    reference: int | None = None
    may_keep: bool = True
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
        update_s: seconds of a whole update in each round of timing.
        message: the error.
    """

    outcome: Outcome
    peak_bytes: int = 0
    update_s: tuple[float, ...] = ()
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
