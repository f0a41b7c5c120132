"""Settings of batches: which items form an update, and how they are packed for the device.

Facts: the modes are those of `engine.batching.open_plan`. Cost is counted in padded seconds: the
number of items times the longest of them.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, model_validator

from models.settings import Section, setting

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
        "exact: an update holds a number of items (or seconds) whatever the device; the others fill "
        "the device up to a limit, from no buckets, buckets by duration, or by duration and tokens.",
    )
    items: int = setting(
        16, "Items of one optimiser update, in mode exact.", unit="items", ge=1, le=65_536
    )
    seconds: float | None = setting(
        None, "Seconds of audio of one update, in place of items, in mode exact.",
        unit="s", gt=0, le=1_000_000,
    )  # fmt: skip
    micro_batch: int = setting(
        16, "Most items on the device at once; an update accumulates over them.",
        unit="items", ge=1, le=4_096,
    )  # fmt: skip
    cap_s: float | None = setting(
        None, "Most padded seconds on the device at once: items times the longest; none: no limit.",
        unit="s", gt=0, le=1_000_000,
    )  # fmt: skip
    quadratic_s: float | None = setting(
        None, "Length q at which attention takes as much memory as all else: an item of d seconds "
        "counts as d + d*d/q; none: as d.", unit="s", gt=0, le=10_000,
    )  # fmt: skip
    joint_tokens: float = setting(
        100.0, "Tokens u at which the joint network takes as much memory as the encoder: in mode "
        "2D-bucketing, an item counts 1 + tokens/u times.", unit="tokens", gt=0, le=1_000_000,
    )  # fmt: skip
    edges: int = setting(
        100, "Lengths that items are padded up to in mode exact: so many different shapes.",
        ge=1, le=10_000,
    )  # fmt: skip
    bins: int = setting(
        100, "Buckets by duration that are estimated at the start, of equal total duration.",
        ge=1, le=10_000,
    )  # fmt: skip
    token_bins: int = setting(
        4, "Buckets by tokens inside each bucket by duration, where those are estimated.",
        ge=1, le=1_000,
    )  # fmt: skip
    bin_ends_s: tuple[_Seconds, ...] = setting(
        (), "Longest duration of each bucket, rising, in mode 1D-bucketing.",
        unit="s", max_length=10_000,
    )  # fmt: skip
    bin_ends: tuple[tuple[_Seconds, Annotated[float, Field(ge=0)]], ...] = setting(
        (), "Buckets of the 2D modes as pairs of the longest duration and the most tokens, like "
        "[[8.0, 40], [16.0, 80]]; empty: estimated.", max_length=10_000,
    )  # fmt: skip
    bin_items: tuple[_Count, ...] = setting(
        (), "Items of a batch from each of bin_ends, in mode 2D-bucketing-fixed.",
        unit="items", max_length=10_000,
    )  # fmt: skip
    accumulation: int = setting(
        1, "Batches of each device that form an update, in every mode but exact.", ge=1, le=65_536
    )
    tail: Literal["drop", "split"] = setting(
        "split",
        "What becomes of items that fill no whole round of batches at the end of an epoch: smaller "
        "batches, or left out of this epoch. Mode exact leaves none.",
    )
    pool_updates: int = setting(
        1, "Updates whose items are drawn together and sorted by length, in mode exact: less padding "
        "with small updates; 1: off.", unit="updates", ge=1, le=10_000,
    )  # fmt: skip
    worst_first: bool = setting(
        True,
        "Begin the run with its most expensive batch, so that memory runs out at once or never; "
        "changes the order of updates where items differ in size.",
    )
    split: int = setting(
        1, "Slices in which the joint network and loss of a transducer run.", ge=1, le=4_096
    )
    workers: int = setting(
        0, "Processes that read audio; 0 reads in the training process.", ge=0, le=64
    )
    prefetch: int = setting(2, "Micro-batches each reader keeps ready.", ge=1, le=64)

    @model_validator(mode="after")
    def _fits_its_mode(self) -> BatchConfig:
        wrong = [*self._missing(), *self._without_effect(), *self._disordered()]
        if wrong:
            raise ValueError("; ".join(wrong))
        return self

    def _missing(self) -> list[str]:
        """Say what the mode needs and does not have."""
        found = []
        if self.mode in CAPPED_MODES and self.cap_s is None:
            found.append(f"mode {self.mode!r} needs batch.cap_s, the padded seconds of a device")
        if self.mode == "1D-bucketing" and not self.bin_ends_s:
            found.append(
                "mode '1D-bucketing' needs batch.bin_ends_s, like [8.0, 16.0]; "
                "'1D-bucketing-dyn' estimates them"
            )
        if self.mode == "2D-bucketing-fixed" and not self.bin_items:
            found.append("mode '2D-bucketing-fixed' needs batch.bin_ends and batch.bin_items")
        if self.mode == "2D-bucketing-fixed" and len(self.bin_items) != len(self.bin_ends):
            found.append(
                f"batch.bin_items needs one value for each of batch.bin_ends: found "
                f"{len(self.bin_items)} and {len(self.bin_ends)}"
            )
        if self.mode == "2D-bucketing-singlet" and len(self.bin_ends) != 1:
            found.append(
                "mode '2D-bucketing-singlet' needs exactly one pair in batch.bin_ends, like "
                f"[[16.7, 80]], found {len(self.bin_ends)}"
            )
        return found

    def _without_effect(self) -> list[str]:
        """Say which limit a person believes in though the mode does not keep it."""
        found = []
        if self.cap_s is not None and self.mode not in ("exact", *CAPPED_MODES):
            found.append(
                f"mode {self.mode!r} does not keep batch.cap_s = {self.cap_s:g}; "
                "set batch.cap_s = none, or take mode 'duration'"
            )
        if self.seconds is not None and self.mode != "exact":
            found.append(f"batch.seconds is for mode 'exact', found mode {self.mode!r}")
        return found

    def _disordered(self) -> list[str]:
        ends = self.bin_ends_s
        if any(high <= low for low, high in pairwise(ends)):
            return [f"batch.bin_ends_s must rise, found {list(ends)}"]
        if len(set(self.bin_ends)) < len(self.bin_ends):
            return [f"batch.bin_ends must differ, found {[list(pair) for pair in self.bin_ends]}"]
        return []
