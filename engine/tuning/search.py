"""The search for the fastest settings of a config within a memory budget.

Batch sizes first: the memory law predicts how many items fit, timing shows which size is fastest.
Then one switch at a time, each against the best so far, interleaved in one process. Only measured
settings are selected. Free of torch. Letters as in `setups`.
"""

from __future__ import annotations

from typing import Any

from engine.config.schema import RunConfig
from engine.tuning.bench import Bench, Emit
from engine.tuning.law import MemoryLaw, Probe, fit_law
from engine.tuning.lengths import LengthSearch
from engine.tuning.setups import Options, Setup, Tuning, TuningError
from engine.tuning.switches import switches
from engine.tuning.trials import Measured, Measurer

_MOST_SIZES = 5
_MOST_ITEMS = 4_096
_MIB = 2**20


def search(config: RunConfig, options: Options, *, measurer: Measurer, emit: Emit) -> Tuning:
    """Search, and return the result.

    Args:
        config: the run; its settings are the baseline.
        options: the user's options.
        measurer: measures jobs.
        emit: called with each row as soon as it is measured.

    Raises:
        TuningError: when not even one item fits, or the measurement failed.
        ValueError: for a config or options that can't be used.
    """
    of_one_size = has_one_size(config)
    item_s = config.segment_s if of_one_size else 0.0
    bench = Bench(options, measurer=measurer, emit=emit, item_s=item_s)
    sizes_: SizeSearch | LengthSearch = (
        SizeSearch(bench, config) if of_one_size else LengthSearch(bench, config)
    )
    best, measured = sizes_.run()
    for key, value in switches(config, bench.facts, options=options):
        if bench.late:
            bench.notes.append(f"{key} was not tried (time budget used up); raise --budget-s")
            continue
        try:
            variant = best.changed(f"{key} = {value}".lower(), {key: value})
        except ValueError:
            continue
        best, measured = bench.take_faster(best, measured, variants=[variant])
    best, measured = sizes_.finish(best, measured)
    ratio = bench.ratio_of(best)
    speed = best.items_per_s(measured)
    return Tuning(
        bench.facts.device_name, bench.cap_bytes, budget_bytes=bench.budget_bytes, goal_items=best.goal,
        micro_batches=best.micro_batches, rows=tuple(bench.rows), settings=dict(best.changes), peak_bytes=measured.peak_bytes, items_per_s=speed,
        audio_s_per_s=speed * bench.item_s, ratio=ratio, law_error=sizes_.law_error, seconds=bench.spent_s, notes=tuple(bench.notes),
    )  # fmt: skip


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

    def run(self) -> tuple[Setup, Measured]:
        """Time several batch sizes and the preset's; return the smallest close to the fastest.

        Raises:
            TuningError: when nothing fits or nothing could be timed.
            ValueError: for options that don't apply to this task.
        """
        bench, preset = self._bench, self._preset()
        law = fit_law(
            bench.measure_probes([preset.changed("", {}, count=b) for b in _probes(preset)])
        )
        most = self._most_items(law, preset)
        self._limited = most < min(preset.goal, _MOST_ITEMS)
        counts = sizes(int(preset.goal), most)
        tried = [self._sized(preset, count) for count in counts if count != preset.count]
        compared = bench.compare(
            sorted([*tried, preset], key=lambda setup: setup.count), reference=preset
        )
        best = bench.smallest(compared)
        largest, its = [(s, m) for s, m in compared if m.peak_bytes][-1]
        self.law_error = law.peak(largest.count, bench.item_s) / its.peak_bytes - 1
        return best

    def finish(self, best: Setup, measured: Measured) -> tuple[Setup, Measured]:
        """Try larger batches where memory limited them and the switches have freed some."""
        bench = self._bench
        if not self._limited or bench.late or measured.peak_bytes > 0.9 * bench.budget_bytes:
            return best, measured
        counts = _probes(best)
        answer = bench.ask([best.changed("", {}, count=b) for b in counts], timing_s=0.0)
        peaks = [one.peak_bytes for one in answer.cases]
        if not all(peaks):
            return best, measured
        law = fit_law(
            [Probe(b, bench.item_s, peak_bytes=p) for b, p in zip(counts, peaks, strict=True)]
        )
        timed = {row.count for row in bench.rows}
        more = [b for b in sizes(int(best.goal), self._most_items(law, best)) if b > best.count]
        larger = [self._sized(best, count) for count in more if count not in timed]
        return bench.take_faster(best, measured, variants=larger) if larger else (best, measured)

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
