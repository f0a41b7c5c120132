"""What is asked of a trial and what it answers. Free of torch: the trial runs in a child process.

Letters: B items. Bytes, seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Outcome = Literal["measured", "over", "oom", "failed", "timeout"]


@dataclass(frozen=True, slots=True)
class Case:
    """One thing to measure: a config with `count` items of `shape` on the device at once.

    Attributes:
        values: the config, as a preset holds it.
        count: B, items of a micro-batch.
        shape: padded size of every item, as in `MicroBatch`; empty where all have one size.
        micro_batches: how many of them form an update.
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
        timing_s: how long each case is timed in all; 0: memory only.
        budget_bytes: a case that takes more is not timed.
        limit_bytes: what the child may allocate on a CPU; beyond it memory runs out.
        survey: also look at the network, and
        sizes: at the sizes of the training items, which takes reading them.
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
        outcome: measured; over the budget (not timed); out of memory; failed; or no answer in time.
        peak_bytes: most of forward, backward and optimiser, with weights and all state.
        update_s: seconds of an update in each round of timing.
        optimizer_s: seconds of that after the last backward pass.
        message: what went wrong.
    """

    outcome: Outcome
    peak_bytes: int = 0
    update_s: tuple[float, ...] = ()
    optimizer_s: float = 0.0
    message: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a child found out about the device and the config.

    Attributes:
        device: its type, cpu or cuda.
        device_name: as its maker calls it.
        total_bytes: memory of the device.
        free_bytes: what nobody uses, seen from a child that holds nothing yet.
        own_bytes: what the child itself holds before it builds anything.
        formats: number formats worth trying: fp32, tf32, bf16, fp16.
        has_2d: the network has weights of four dimensions.
        can_compile: a compiler for this device is there.
        lengths_s: shortest, middle and longest training item, rising, where they differ in length;
            the middle one is their median, or lies half way where that is too near an end.
        tokens: most tokens of an item that is not longer than that, for each of the three.
        mean_s: mean length of the training items.
        mean_tokens: mean number of their tokens.
        num_items: how many there are.
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
    """What came of a job: one entry for each case, in order; facts where a child got that far.

    `problem` is a mistake of the user's that no case can be measured with.
    """

    cases: tuple[Measured, ...]
    facts: Facts | None = None
    problem: str = ""


class Measurer(Protocol):
    """Measures jobs; a child process does (`engine.tuning.children`), or a test's arithmetic."""

    def measure(self, job: Job, *, timeout_s: float) -> Answer:
        """Return an answer for every case, whatever happens to the child."""
