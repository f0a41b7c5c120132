"""Finds what fits where items differ in length: six probes fit the law, three edges check it.

Letters: T seconds of an item, U its tokens, S slices of the joint network; else as in `setups`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from math import ceil, floor, inf
from typing import Any

import numpy as np

from engine.config.schema import RunConfig
from engine.tuning.bench import CONFIRMATION, FIRST_SHARE, Bench, Found
from engine.tuning.law import MemoryLaw, fit_law, quadratic_length
from engine.tuning.mix import describe_lengths, mix_of
from engine.tuning.setups import Setup, TuningError, write_value
from engine.tuning.trials import Measured

# Fractions of the memory above the fixed part that are timed in addition to all of it.
_SHARES = (0.25, 0.5)
_SLICES = (2, 4, 8)
_MOST_ITEMS = 4_096
_GRID = 33
_ATTEMPTS = 3
# A result is safe only once it is checked, so a check may exceed the time budget.
_CHECK_S = 60.0
_LABEL = "unchanged preset"


class LengthSearch:
    """Finds the padded seconds (or the items of each bucket) that fit in memory and are fast."""

    def __init__(self, bench: Bench, config: RunConfig, *, sizes: np.ndarray | None = None) -> None:
        self._bench = bench
        self._config = config
        self._sizes = sizes
        self._lengths: tuple[float, ...] = ()
        self._tokens: tuple[float, ...] = ()
        self.law_error: float | None = None
        self._law: MemoryLaw
        self._goal_items = 1.0
        self._middle: tuple[float, ...] = ()

    def run(self) -> Found:
        """Fit the law, race three batch sizes and the preset, then try more slices.

        Raises:
            TuningError: when not even one item of maximum length fits.
            ValueError: when the data can't be read, or the options don't apply to it.
        """
        bench, preset = self._bench, self._look()
        self._law = fit_law(bench.measure_probes(self._probes(preset)))
        may_keep = self._is_safe(preset)
        preset = self._mixed(preset)
        tried = [self._mixed(setup) for setup in self._tried(preset)]
        if may_keep and preset.mix:
            # Small updates fit whole, whatever the limit: the same batches take the same time.
            tried = [setup for setup in tried if setup.mix != preset.mix]
        compared = bench.compare(
            [preset, *tried],
            reference=0,
            limit_s=bench.share_s(FIRST_SHARE),
            may_keep=may_keep,
        )
        found = bench.found(compared, may_keep=may_keep)
        slices_help = self._law.joint > 0 and self._config.loss.in_slices
        if slices_help and "batch.split" not in bench.options.keep:
            best, measured = self._try_slices(found.best, found.measured)
            found = replace(found, best=best, measured=measured)
        return found

    @property
    def data(self) -> str:
        """What was timed, in words."""
        if self._sizes is None:
            return f"timed on items of {self._middle[0]:.1f} s"
        return f"timed on batches as they are made of {describe_lengths(self._sizes)}"

    def extend(self, best: Setup, measured: Measured) -> tuple[Setup, Measured]:
        """Return both as they are: every batch is as full as its memory allows."""
        return best, measured

    def _mixed(self, setup: Setup) -> Setup:
        """Return the setup with updates as the batch plan makes them of the training items."""
        return setup if self._sizes is None else replace(setup, mix=mix_of(setup, self._sizes))

    def _tried(self, preset: Setup) -> list[Setup]:
        """Return setups with increasing numbers of items."""
        tried: dict[int, Setup] = {}
        full = self._filled(preset, self._law, share=1.0)
        for share in _SHARES:
            # A fraction of the memory may be too small for one item of maximum length; the whole is not.
            with suppress(TuningError):
                part = self._filled(preset, self._law, share=share)
                tried.setdefault(part.count, part)
        tried.setdefault(full.count, full)
        return [tried[count] for count in sorted(tried)]

    def _is_safe(self, setup: Setup) -> bool:
        """Return whether a setup fits at every length, according to the law."""
        batch, slices = setup.values["batch"], _slices(setup)
        return all(
            self._law.peak(count_at(batch, *both), both[0], tokens=both[1], slices=slices)
            <= self._bench.budget_bytes
            for both in map(_both, self._grid())
        )

    def check(self, best: Setup, measured: Measured) -> tuple[Setup, Measured]:
        """Measure the selected setup at the longest, the highest-memory and the shortest edge.

        A setup that exceeds the budget is reduced in proportion, at most twice.

        Raises:
            TuningError: when even the last reduction does not fit.
        """
        for attempt in range(_ATTEMPTS):
            edges = self._edges(best)
            answer = self._bench.ask([setup for setup, _ in edges], timing_s=0.0, least_s=_CHECK_S)
            peaks = [one.peak_bytes for one in answer.cases]
            for (setup, predicted), one in zip(edges, answer.cases, strict=True):
                self._bench.add_row(setup, one)
                # The law was fitted in the preset's own number format.
                if 0 < one.peak_bytes == max(peaks) and "precision.dtype" not in best.changes:
                    self.law_error = predicted / one.peak_bytes - 1
            outcomes = {one.outcome for one in answer.cases}
            if outcomes == {"measured"}:
                return best, replace(measured, peak_bytes=max(peaks))
            if outcomes <= {"measured", "timeout"}:
                # A timeout says nothing about memory: keep the selected setup, and don't retry.
                self._bench.notes.append(
                    "the selected settings were not checked at every length (time budget used up); raise --budget-s"
                )
                return best, replace(measured, peak_bytes=max(measured.peak_bytes, *peaks))
            if attempt < _ATTEMPTS - 1:
                share = 0.95 * self._bench.budget_bytes / max(peaks) if all(peaks) else 0.7
                best = self._smaller(best, share)
        raise TuningError(
            "the predicted batch size did not fit in memory: "
            f"{next(one.message for one in answer.cases if one.outcome != 'measured') or 'over budget'}; "
            "keep more memory free (--free)"
        )

    def _look(self) -> Setup:
        """Read the sizes of the training items; return the unchanged preset at the middle length."""
        options, batch = self._bench.options, self._config.batch
        start = Setup(_LABEL, self._config.to_dict(), count=1, goal=1)
        answer = self._bench.ask([start], timing_s=0.0, survey=True, lengths=True)
        facts = self._bench.facts
        if not facts.lengths_s:
            raise TuningError(f"measurement failed: {answer.cases[0].message}")
        self._lengths, self._tokens = facts.lengths_s, facts.tokens
        if batch.mode.startswith("2D") and batch.bin_ends:
            ends = sorted(batch.bin_ends)
            chosen = {0: ends[0], 1: ends[len(ends) // 2], 2: ends[-1]}
            picked = sorted(set(chosen.values()))
            if len(picked) in (1, 3):
                self._lengths, self._tokens = (
                    tuple(column) for column in zip(*picked, strict=True)
                )
        if options.tokens is not None and not facts.tokens:
            raise ValueError(
                "--tokens: the training items have no tokens; use --items or --seconds"
            )
        self._middle = middle = self._shape(self._lengths[len(self._lengths) // 2])
        self._bench.item_s = facts.mean_s
        count = count_at(start.values["batch"], *_both(middle))
        goal = self._goal(count)
        asked = (options.items, options.seconds, options.tokens) != (None, None, None)
        # A trial runs on one device, so it needs one device's part of an update.
        of_all = batch.mode == "exact" or asked
        own = max(1.0, goal / self._config.precision.devices) if of_all else goal
        self._goal_items = own
        count = max(1, min(count, int(own)))
        return Setup(_LABEL, start.values, count=count, goal=own, shape=middle).changed(
            _LABEL, self._goal_changes(goal)
        )

    def _goal(self, count: int) -> float:
        """Return G in items: from the options, or else from the config."""
        options, batch, facts = self._bench.options, self._config.batch, self._bench.facts
        if options.items is not None:
            return options.items
        if options.seconds is not None:
            return max(1.0, options.seconds / facts.mean_s)
        if options.tokens is not None:
            return max(1.0, options.tokens / max(facts.mean_tokens, 1e-9))
        if batch.mode != "exact":
            return count * batch.accumulation
        return batch.items if batch.seconds is None else max(1.0, batch.seconds / facts.mean_s)

    def _goal_changes(self, goal: float) -> dict[str, Any]:
        options, batch = self._bench.options, self._config.batch
        asked = options.items or options.seconds or options.tokens
        if batch.mode != "exact" or asked is None:
            return {}
        if options.seconds is not None:
            return {"batch.seconds": float(options.seconds)}
        return {"batch.items": round(goal), "batch.seconds": None}

    def _probes(self, preset: Setup) -> list[Setup]:
        """Return B = 1 and 2 at each length, and half the tokens at the longest and the shortest."""
        shapes = [self._shape(length) for length in self._lengths]
        probes = [
            replace(preset, label="", count=count).at(shape) for shape in shapes for count in (1, 2)
        ]
        for shape in dict.fromkeys((shapes[-1], shapes[0])):
            if len(shape) > 1 and shape[1] >= 2:
                fewer = (shape[0], float(int(shape[1] / 2)))
                probes.append(replace(preset, label="", count=2).at(fewer))
        return probes

    def _shape(self, length_s: float) -> tuple[float, ...]:
        """Return (T,) or (T, U) with the most tokens of an item that is not longer."""
        if not self._tokens:
            return (length_s,)
        place = next(i for i, end in enumerate(self._lengths) if length_s <= end * (1 + 1e-6))
        return (length_s, self._tokens[place])

    def _filled(self, setup: Setup, law: MemoryLaw, *, share: float, slices: int = 0) -> Setup:
        """Return `setup` with batches that fill a fraction of the available memory."""
        slices = slices or _slices(setup)
        changes = self._fill(law, share, slices=slices)
        if slices != _slices(setup):
            changes["batch.split"] = slices
        shown = ("batch.split", "batch.cap_s", "batch.bin_items", "batch.micro_batch")
        label = next(f"{key} = {write_value(changes[key])}" for key in shown if key in changes)
        filled = setup.changed(label, changes)
        count = min(count_at(filled.values["batch"], *_both(setup.shape)), ceil(setup.goal))
        if self._config.batch.mode != "exact":
            accumulation = {"batch.accumulation": max(1, round(setup.goal / count))}
            return filled.changed(label, accumulation, count=count)
        return replace(filled, count=count)

    def _smaller(self, setup: Setup, share: float) -> Setup:
        """Return `setup` with a fraction of its items per micro-batch."""
        # The selected setup may be the preset itself: then there are no changes yet.
        batch, changes = setup.values["batch"], dict(setup.changes)
        if batch["mode"] == "2D-bucketing-fixed":
            changes["batch.bin_items"] = [max(1, int(share * n)) for n in batch["bin_items"]]
        else:
            for key in ("cap_s", "micro_batch"):
                if batch[key] is not None:
                    changes[f"batch.{key}"] = max(1, int(share * batch[key]))
        smaller = setup.changed(setup.label, changes)
        count = min(count_at(smaller.values["batch"], *_both(setup.shape)), ceil(setup.goal))
        return replace(smaller, count=count)

    def _fill(self, law: MemoryLaw, share: float, *, slices: int) -> dict[str, Any]:
        """Return the settings that fill a fraction of the available memory."""
        batch = self._config.batch
        fixed = max(law.peak(0, length) for length in self._lengths)
        budget = fixed + share * (self._bench.budget_bytes - fixed)

        def most_items(length_s: float, tokens: float) -> int:
            return law.most_items(budget, length_s, tokens=tokens, slices=slices)

        grid = self._grid()
        least = min(most_items(*_both(shape)) for shape in grid)
        if least < 1:
            slicing = "raise batch.split, " if self._config.loss.in_slices else ""
            raise TuningError(
                f"a single item of {self._lengths[-1]:g} s does not fit in {budget / 2**20:.0f} MiB; lower data.max_s, "
                f"{slicing}use a smaller model, or allow more memory (--memory, --free)"
            )
        if batch.mode == "2D-bucketing-fixed":
            items = [min(_MOST_ITEMS, most_items(*end)) for end in batch.bin_ends]
            return {"batch.bin_items": items}
        if batch.mode in ("fixed", "2D-bucketing-singlet"):
            return {"batch.micro_batch": min(least, _MOST_ITEMS)}
        quadratic = quadratic_length(law.per_item, self._lengths[-1])
        changes: dict[str, Any] = {"batch.quadratic_s": round(quadratic, 2) if quadratic else None}
        if batch.mode == "2D-bucketing" and law.joint > 0 and law.per_item.c1 > 0:
            changes["batch.joint_tokens"] = round(slices * law.per_item.c1 / law.joint, 2)
        scales = (changes["batch.quadratic_s"], changes.get("batch.joint_tokens"))
        fits = [(both, most_items(*both)) for both in map(_both, grid)]
        # In mode exact a micro-batch never exceeds the items of an update.
        whole = ceil(self._goal_items) if batch.mode == "exact" else _MOST_ITEMS
        most = whole * cost(*fits[-1][0], *scales)
        if batch.mode != "exact":
            most = max(self._goal_items, 1.0) * cost(*_both(self._middle), *scales)
        fitting = min(count * cost(*both, *scales) for both, count in fits)
        # Where memory leaves room, rounding must not cut the longest batch in two.
        all_s = _rounded(most, ceil)
        changes["batch.cap_s"] = all_s if all_s <= fitting else _rounded(min(most, fitting), floor)
        changes["batch.micro_batch"] = min(_MOST_ITEMS, whole, max(count for _, count in fits))
        return changes

    def _grid(self) -> list[tuple[float, ...]]:
        """Return sizes from the shortest to the longest item."""
        low, high = self._lengths[0], self._lengths[-1]
        steps = _GRID - 1 if high > low else 0
        lengths = [low + (high - low) * i / steps for i in range(_GRID)] if steps else [high]
        shapes = [self._shape(length) for length in lengths]
        # Items slightly longer than an edge may have as many tokens as items at the next edge.
        steps_up = zip(self._lengths[:-1], self._tokens[1:], strict=False)
        return sorted([*shapes, *steps_up])

    def _edges(self, best: Setup) -> list[tuple[Setup, float]]:
        """Return the selected setup at three edges, with the predicted peaks."""
        slices, batch, law, grid = _slices(best), best.values["batch"], self._law, self._grid()

        def peak(shape: tuple[float, ...]) -> float:
            length, tokens = _both(shape)
            return law.peak(count_at(batch, length, tokens), length, tokens=tokens, slices=slices)

        edges = {"longest": grid[-1], "highest-memory": max(grid, key=peak), "shortest": grid[0]}
        return [
            (
                replace(
                    best, label=f"check: {name} items", count=count_at(batch, *_both(shape))
                ).at(shape),
                peak(shape),
            )
            for name, shape in edges.items()
        ]

    def _try_slices(self, best: Setup, measured: Measured) -> tuple[Setup, Measured]:
        """Try more slices of the joint network, each with the maximum number of items that then fit."""
        variants = [
            self._mixed(self._filled(best, self._law, share=1.0, slices=slices))
            for slices in _SLICES
            if slices > _slices(best)
        ]
        limit_s = self._bench.share_s(0.4, reserve=CONFIRMATION)
        return self._bench.take_faster(best, measured, variants=variants, limit_s=limit_s)


def cost(
    length_s: float, tokens: float, quadratic_s: float | None, tokens_scale: float | None
) -> float:
    """Return the cost of an item in padded seconds, as in the batch plans (`batch.quadratic_s`)."""
    seconds = length_s + (length_s * length_s / quadratic_s if quadratic_s else 0.0)
    return seconds * (1 + tokens / tokens_scale if tokens_scale else 1.0)


def count_at(batch: Mapping[str, Any], length_s: float, tokens: float) -> int:
    """Return the number of items of one size that the settings of `batch` allow per micro-batch."""
    if batch["mode"] == "2D-bucketing-fixed":
        pairs = zip(batch["bin_ends"], batch["bin_items"], strict=True)
        fitting = [items for (end, most), items in pairs if length_s <= end and tokens <= most]
        return int(fitting[0]) if fitting else 1
    scale = batch["joint_tokens"] if batch["mode"] == "2D-bucketing" else None
    each = cost(length_s, tokens, batch["quadratic_s"], scale)
    fits = inf if batch["cap_s"] is None else batch["cap_s"] / each * (1 + 1e-9)
    return max(1, int(min(fits, batch["micro_batch"])))


def _both(shape: tuple[float, ...]) -> tuple[float, float]:
    return shape[0], shape[1] if len(shape) > 1 else 0.0


def _slices(setup: Setup) -> int:
    return int(setup.values["batch"].get("split", 1))


def _rounded(cap: float, how: Callable[[float], int]) -> float:
    """Round, down or up, to three digits: readable in a preset."""
    digits = 10 ** max(0, len(str(int(cap))) - 3)
    return how(cap / digits) * digits if cap >= 100 else how(cap * 100) / 100
