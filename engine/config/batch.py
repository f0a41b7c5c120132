"""Settings of batches: which items form an update, and how they are packed for the device.

Facts: the modes are those of `engine.batching.open_plan`. Cost is measured in padded seconds: the
number of items times the duration of the longest one.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, model_validator

from models.base.settings import Section, setting

BatchMode = Literal[
    "exact", "fixed", "duration", "1D-bucketing", "1D-bucketing-dyn", "2D-bucketing",
    "2D-bucketing-fixed", "2D-bucketing-singlet",
]  # fmt: skip
CAPPED_MODES = ("duration", "1D-bucketing", "1D-bucketing-dyn", "2D-bucketing")
TOKEN_MODES = ("2D-bucketing", "2D-bucketing-fixed", "2D-bucketing-singlet")

_Seconds = Annotated[float, Field(gt=0, le=86_400)]
_Count = Annotated[int, Field(ge=1, le=65_536)]


class BatchConfig(Section):
    """How many items form an update, and how they are packed for the device."""

    mode: BatchMode = setting(
        "exact",
        "exact: fixed update size in items or seconds, independent of hardware. Other modes fill each "
        "device up to a limit: without buckets, bucketed by duration, or by duration and tokens.",
    )
    items: int = setting(
        16, "Items per optimizer update, in mode exact. Published transducers use more than 1024 "
        "utterances (or 5 hours) on large data sets.", unit="items", ge=1, le=65_536,
    )  # fmt: skip
    seconds: float | None = setting(
        None, "Seconds of audio per optimizer update, in place of items, in mode exact.",
        unit="s", gt=0, le=1_000_000,
    )  # fmt: skip
    micro_batch: int = setting(
        16, "Maximum items per micro-batch; gradients accumulate over the micro-batches of an update.",
        unit="items", ge=1, le=4_096,
    )  # fmt: skip
    cap_s: float | None = setting(
        None, "Maximum padded seconds per micro-batch: number of items times the longest; none: no limit.",
        unit="s", gt=0, le=1_000_000,
    )  # fmt: skip
    quadratic_s: float | None = setting(
        None, "Length q at which attention needs as much memory as all other layers: an item of d "
        "seconds costs d + d*d/q; none: d.", unit="s", gt=0, le=10_000,
    )  # fmt: skip
    joint_tokens: float = setting(
        100.0, "Number of tokens u at which the joint network needs as much memory as the encoder: "
        "mode 2D-bucketing multiplies the cost of an item by 1 + tokens/u.", unit="tokens", gt=0, le=1_000_000,
    )  # fmt: skip
    edges: int = setting(
        100, "Maximum number of distinct padded lengths, in mode exact.",
        ge=1, le=10_000,
    )  # fmt: skip
    bins: int = setting(
        100, "Number of duration buckets estimated at the start, of equal total duration.",
        ge=1, le=10_000,
    )  # fmt: skip
    token_bins: int = setting(
        4, "Number of token buckets within each estimated duration bucket.",
        ge=1, le=1_000,
    )  # fmt: skip
    bin_ends_s: tuple[_Seconds, ...] = setting(
        (), "Maximum duration of each bucket, in increasing order, for mode 1D-bucketing.",
        unit="s", max_length=10_000,
    )  # fmt: skip
    bin_ends: tuple[tuple[_Seconds, Annotated[float, Field(ge=0)]], ...] = setting(
        (), "Buckets of the 2D modes as pairs of maximum duration and maximum tokens, like "
        "[[8.0, 40], [16.0, 80]]; empty: estimated.", max_length=10_000,
    )  # fmt: skip
    bin_items: tuple[_Count, ...] = setting(
        (), "Batch size of each bucket of bin_ends, in mode 2D-bucketing-fixed.",
        unit="items", max_length=10_000,
    )  # fmt: skip
    accumulation: int = setting(
        1, "Batches accumulated per device and update, in all modes except exact.", ge=1, le=65_536
    )
    tail: Literal["drop", "split"] = setting(
        "split",
        "Items left over at the end of an epoch that do not fill one batch per device: split them "
        "into smaller batches, or drop them from this epoch. Mode exact has none.",
    )
    pool_updates: int = setting(
        1, "Number of updates whose items are pooled and sorted by length, in mode exact; reduces "
        "padding when updates are small; 1: off.", unit="updates", ge=1, le=10_000,
    )  # fmt: skip
    worst_first: bool = setting(
        True,
        "Start the run with its most expensive batch, so that an out-of-memory error occurs at once "
        "or never; changes the order of updates if items differ in size.",
    )
    split: int = setting(
        1,
        "Number of slices in which the joint network and the loss of a transducer are computed.",
        ge=1,
        le=4_096,
    )
    workers: int = setting(
        0, "Number of data-loading processes; 0: load in the training process.", ge=0, le=64
    )
    prefetch: int = setting(
        2, "Number of micro-batches prefetched per data-loading process.", ge=1, le=64
    )

    @model_validator(mode="after")
    def _fits_its_mode(self) -> BatchConfig:
        wrong = [*self._missing(), *self._without_effect(), *self._disordered()]
        if wrong:
            raise ValueError("; ".join(wrong))
        return self

    def _missing(self) -> list[str]:
        """Describe the settings that the mode requires but that are missing."""
        problems = []
        if self.mode in CAPPED_MODES and self.cap_s is None:
            problems.append(
                f"mode {self.mode!r} needs batch.cap_s, the maximum padded seconds per micro-batch"
            )
        if self.mode == "1D-bucketing" and not self.bin_ends_s:
            problems.append(
                "mode '1D-bucketing' needs batch.bin_ends_s, like [8.0, 16.0]; "
                "'1D-bucketing-dyn' estimates them"
            )
        if self.mode == "2D-bucketing-fixed" and not self.bin_items:
            problems.append("mode '2D-bucketing-fixed' needs batch.bin_ends and batch.bin_items")
        if self.mode == "2D-bucketing-fixed" and len(self.bin_items) != len(self.bin_ends):
            problems.append(
                f"batch.bin_items needs one value for each of batch.bin_ends: found "
                f"{len(self.bin_items)} and {len(self.bin_ends)}"
            )
        if self.mode == "2D-bucketing-singlet" and len(self.bin_ends) != 1:
            problems.append(
                "mode '2D-bucketing-singlet' needs exactly one pair in batch.bin_ends, like "
                f"[[16.7, 80]], found {len(self.bin_ends)}"
            )
        return problems

    def _without_effect(self) -> list[str]:
        """Describe limits that are set although the mode ignores them."""
        problems = []
        if self.cap_s is not None and self.mode not in ("exact", *CAPPED_MODES):
            problems.append(
                f"mode {self.mode!r} ignores batch.cap_s = {self.cap_s:g}; "
                "set batch.cap_s = none, or use mode 'duration'"
            )
        if self.seconds is not None and self.mode != "exact":
            problems.append(f"batch.seconds requires mode 'exact', found mode {self.mode!r}")
        return problems

    def _disordered(self) -> list[str]:
        ends = self.bin_ends_s
        if any(high <= low for low, high in pairwise(ends)):
            return [f"batch.bin_ends_s must be increasing, found {list(ends)}"]
        if len(set(self.bin_ends)) < len(self.bin_ends):
            return [
                f"batch.bin_ends must be distinct, found {[list(pair) for pair in self.bin_ends]}"
            ]
        return []
