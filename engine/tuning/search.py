"""The search for the fastest settings of a config within a memory budget.

Batch sizes first: the memory law predicts how many items fit, a race (`race`) shows which size is
fastest. Then one switch at a time, each against the best so far, interleaved in one process. In the end
the preset and what was selected are timed once more, since the best of several looks better than it is;
the preset is changed only if that shows a gain. Only measured settings are selected. Free of torch.
Letters as in `setups`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from engine.config.schema import RunConfig
from engine.tuning.bench import CONFIRMATION, FIRST_SHARE, Bench, Emit, Found
from engine.tuning.law import MemoryLaw, Probe, fit_law
from engine.tuning.lengths import LengthSearch
from engine.tuning.race import Ratio
from engine.tuning.setups import Options, Setup, Tuning, TuningError
from engine.tuning.switches import switches
from engine.tuning.trials import Measured, Measurer

_MOST_SIZES = 5
_MOST_ITEMS = 4_096
_MIB = 2**20
_AGAIN = "selected settings, timed once more"


def search(
    config: RunConfig,
    options: Options,
    *,
    measurer: Measurer,
    emit: Emit,
    sizes: np.ndarray | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Tuning:
    """Search, and return the result.

    Args:
        config: the run; its settings are the baseline.
        options: the user's options.
        measurer: measures jobs.
        emit: called with each row as soon as it is measured.
        sizes: (N, D) sizes of the training items, where they differ.
        clock: seconds.

    Raises:
        TuningError: when not even one item fits, or the measurement failed.
        ValueError: for a config or options that can't be used.
    """
    of_one_size = has_one_size(config)
    item_s = config.segment_s if of_one_size else 0.0
    bench = Bench(options, measurer=measurer, emit=emit, item_s=item_s, clock=clock)
    sizes_: SizeSearch | LengthSearch = (
        SizeSearch(bench, config) if of_one_size else LengthSearch(bench, config, sizes=sizes)
    )
    found = sizes_.run()
    best, measured = _switched(bench, config, best=found.best, measured=found.measured)
    best, measured = sizes_.extend(best, measured)
    best, measured, ratio = _confirmed(bench, found, best=best, measured=measured)
    best, measured = sizes_.check(best, measured)
    speed = best.items_per_s(measured)
    return Tuning(
        bench.facts.device_name, bench.cap_bytes, budget_bytes=bench.budget_bytes, goal_items=best.goal,
        micro_batches=best.micro_batches, rows=tuple(bench.rows), settings=dict(best.changes), peak_bytes=measured.peak_bytes, items_per_s=speed,
        audio_s_per_s=speed * bench.item_s, ratio=ratio, law_error=sizes_.law_error, seconds=bench.spent_s, data=sizes_.data, count=best.count, shape=best.shape, notes=tuple(bench.notes),
    )  # fmt: skip


def _switched(
    bench: Bench, config: RunConfig, *, best: Setup, measured: Measured
) -> tuple[Setup, Measured]:
    """Try one switch after another, each against the best so far."""
    left = list(switches(config, bench.facts, options=bench.options))
    while left:
        key, value = left.pop(0)
        limit_s = bench.share_s(1 / (len(left) + 1), reserve=CONFIRMATION)
        if bench.late or not limit_s:
            bench.notes.append(f"{key} was not tried (time budget used up); raise --budget-s")
            continue
        try:
            variant = best.changed(f"{key} = {value}".lower(), {key: value})
        except ValueError:
            continue
        best, measured = bench.take_faster(best, measured, variants=[variant], limit_s=limit_s)
    return best, measured


def _confirmed(
    bench: Bench, found: Found, *, best: Setup, measured: Measured
) -> tuple[Setup, Measured, Ratio | None]:
    """Time the preset and what was selected once more; return what it shows, and the ratio.

    The preset stays where no gain is shown. Without time left, the ratio of before is returned.
    """
    if best is found.preset or found.preset is None:
        return best, measured, None
    preset, before = found.preset, bench.ratio_of(best)
    if bench.late:
        bench.notes.append(
            "the selected settings were not timed once more (time budget used up); raise --budget-s"
        )
        return best, measured, before
    again = replace(best, label=_AGAIN)
    compared = bench.compare(
        [preset, again], reference=0, limit_s=bench.share_s(1.0), known=True, may_keep=True
    )
    race = compared.race
    if not race.times[0] or not race.times[1]:
        bench.notes.append("the selected settings could not be timed beside the preset once more")
        return best, measured, before
    ratio = race.ratio(1, 0)
    if ratio.low > 1:
        bench.decide(again, "confirmed")
        return best, replace(compared.entries[1][1], peak_bytes=measured.peak_bytes), ratio
    bench.decide(again, "rejected: no gain over the preset shown")
    bench.notes.append(
        f"no difference found: timed once more, the selected settings ran at {ratio.middle:.2f}x the "
        f"speed of the preset ({ratio.low:.2f} to {ratio.high:.2f}); the preset stays as it is"
    )
    return preset, found.preset_measured, None


def has_one_size(config: RunConfig) -> bool:
    """Return whether all training items have the same length, known without reading any."""
    return not config.data.items_differ


class SizeSearch:
    """Finds the batch size where all items have the same length: two probes fit the law."""

    def __init__(self, bench: Bench, config: RunConfig) -> None:
        self._bench = bench
        self._config = config
        self.law_error: float | None = None
        self._limited = False

    def run(self) -> Found:
        """Time several batch sizes and the preset's; choose one.

        Raises:
            TuningError: when nothing fits or nothing could be timed.
            ValueError: for options that don't apply to this task.
        """
        bench, preset = self._bench, self._preset()
        law = fit_law(
            bench.measure_probes([replace(preset, label="", count=b) for b in _probes(preset)])
        )
        most = self._most_items(law, preset)
        self._limited = most < min(preset.goal, _MOST_ITEMS)
        counts = sizes(int(preset.goal), most)
        tried = [self._sized(preset, count) for count in counts if count != preset.count]
        setups = sorted([*tried, preset], key=lambda setup: setup.count)
        compared = bench.compare(
            setups, reference=setups.index(preset), limit_s=bench.share_s(FIRST_SHARE)
        )
        found = bench.found(compared)
        largest, its = [(s, m) for s, m in compared.entries if m.peak_bytes][-1]
        self.law_error = law.peak(largest.count, bench.item_s) / its.peak_bytes - 1
        return found

    @property
    def data(self) -> str:
        """What was timed, in words."""
        return f"timed on segments of {self._bench.item_s:g} s, which all training items are"

    def extend(self, best: Setup, measured: Measured) -> tuple[Setup, Measured]:
        """Try larger batches where memory limited them and the switches have freed some."""
        bench = self._bench
        if not self._limited or bench.late or measured.peak_bytes > 0.9 * bench.budget_bytes:
            return best, measured
        counts = _probes(best)
        answer = bench.ask([replace(best, label="", count=b) for b in counts], timing_s=0.0)
        peaks = [one.peak_bytes for one in answer.cases]
        if not all(peaks):
            return best, measured
        law = fit_law(
            [Probe(b, bench.item_s, peak_bytes=p) for b, p in zip(counts, peaks, strict=True)]
        )
        timed = {row.count for row in bench.rows}
        more = [b for b in sizes(int(best.goal), self._most_items(law, best)) if b > best.count]
        larger = [self._sized(best, count) for count in more if count not in timed]
        if not larger:
            return best, measured
        limit_s = bench.share_s(1.0, reserve=CONFIRMATION)
        return bench.take_faster(best, measured, variants=larger, limit_s=limit_s)

    def check(self, best: Setup, measured: Measured) -> tuple[Setup, Measured]:
        """Return both as they are: what was timed was as large as any batch."""
        return best, measured

    def _preset(self) -> Setup:
        """Return the preset, changed only in the requested items per update."""
        options, batch = self._bench.options, self._config.batch
        if options.tokens is not None:
            raise ValueError(
                "--tokens: items of this task have no tokens; use --items or --seconds"
            )
        exact = batch.mode == "exact"
        goal = batch.items if exact else batch.micro_batch * batch.accumulation
        if exact and batch.seconds is not None:
            goal = max(1, round(batch.seconds / self._bench.item_s))
        if options.seconds is not None:
            goal = max(1, round(options.seconds / self._bench.item_s))
        goal = options.items or goal
        changes: dict[str, Any] = {}
        if exact and batch.seconds is not None:
            changes["batch.seconds"] = float(goal * self._bench.item_s)
        elif exact and goal != batch.items:
            changes["batch.items"] = goal
        label = "unchanged preset"
        # A trial runs on one device, so it needs one device's part of an update.
        of_all = exact or options.items is not None or options.seconds is not None
        own = -(-goal // self._config.precision.devices) if of_all else goal
        start = Setup(label, self._config.to_dict(), count=min(own, batch.micro_batch), goal=own)
        return start.changed(label, changes)

    def _sized(self, setup: Setup, count: int) -> Setup:
        """Return the setup with `count` items per micro-batch."""
        changes: dict[str, Any] = {"batch.micro_batch": count}
        if self._config.batch.cap_s is not None:
            changes["batch.cap_s"] = None
            if self._config.batch.mode != "exact":
                # Slightly above the length of the items, so that rounding drops none.
                changes["batch.cap_s"] = round(count * self._bench.item_s * 1.001, 6)
        if self._config.batch.mode != "exact":
            changes["batch.accumulation"] = -(-int(setup.goal) // count)
        return setup.changed(f"batch.micro_batch = {count}", changes, count=count)

    def _most_items(self, law: MemoryLaw, setup: Setup) -> int:
        bench = self._bench
        most = law.most_items(bench.budget_bytes, bench.item_s)
        if most < 1:
            raise TuningError(
                f"a single item of {bench.item_s:g} s does not fit: it needs "
                f"{law.peak(1, bench.item_s) / _MIB:.0f} MiB, the limit is {bench.budget_bytes / _MIB:.0f} "
                "MiB; use shorter items or a smaller model, or allow more memory (--memory, --free)"
            )
        return min(most, int(setup.goal), _MOST_ITEMS)


def _probes(setup: Setup) -> tuple[int, int]:
    """Return the two item counts to probe, well apart, since resident memory is measured in pages."""
    return 1, 4 if setup.goal >= 4 else 2


def sizes(goal: int, most: int) -> list[int]:
    """Return the batch sizes to time, increasing: `goal` split into 1, 2, 4, ... times the minimum parts."""
    counts: list[int] = []
    parts = -(-goal // most)
    while len(counts) < _MOST_SIZES:
        count = -(-goal // parts)
        if count not in counts:
            counts.append(count)
        if count == 1:
            break
        parts *= 2
    return sorted(counts)
