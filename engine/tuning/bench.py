"""Shared by all searches: measure in a child process, keep time and memory budgets, add rows, compare.

Free of torch: children do the measuring. Letters as in `setups`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from engine.tuning.law import Probe, memory_cap
from engine.tuning.setups import Options, Row, Setup, TuningError, speed_ratio
from engine.tuning.trials import Answer, Facts, Job, Measured, Measurer

Emit = Callable[[Row], None]
# Speed-up below which a difference is ignored: a smaller batch this close to the fastest is preferred.
WORTH = 1.02
_TIMING_S = 1.5
_SHORTEST_TRIAL_S = 20.0


class Bench:
    """Measures setups side by side.

    Args:
        options: the user's options.
        measurer: measures jobs.
        emit: called with each row as soon as it is measured.
        item_s: seconds of one item, for speeds in seconds of audio.
    """

    def __init__(self, options: Options, *, measurer: Measurer, emit: Emit, item_s: float) -> None:
        self.options = options
        self._measurer = measurer
        self._emit = emit
        self._started = time.monotonic()
        self.rows: list[Row] = []
        self.notes: list[str] = []
        self.cap_bytes = self.budget_bytes = 0
        self.item_s = item_s
        self.facts: Facts

    def measure_probes(self, setups: Sequence[Setup]) -> list[Probe]:
        """Measure the memory of some setups, read the device's facts, and set the memory budget.

        Raises:
            TuningError: when one of them could not be measured.
        """
        answer = self.ask(setups, timing_s=0.0, survey=True)
        probes = []
        for setup, measured in zip(setups, answer.cases, strict=True):
            peak = measured.peak_bytes
            if measured.outcome == "oom" and setup.count > 1 and not setup.shape:
                # The true peak is unknown, but it exceeds the available memory. Any value above the
                # budget makes the law predict that fewer than `count` items fit.
                peak = max(self.cap_bytes, self.facts.total_bytes) + 1
                self.notes.append(f"{setup.count} items per micro-batch don't fit in memory")
            elif measured.outcome == "oom":
                some = "a single item of maximum length does not"
                if setup.count > 1:
                    some = f"{setup.count} items of maximum length do not"
                raise TuningError(
                    f"{some} fit in memory on {self.facts.device_name}: "
                    f"{measured.message}; use shorter items or a smaller model, or raise the limit "
                    "(--memory)"
                )
            elif not peak:
                raise TuningError(f"measurement failed: {measured.message}")
            length, tokens = (*setup.shape, 0.0, 0.0)[:2] if setup.shape else (self.item_s, 0.0)
            probes.append(
                Probe(setup.count, length, peak_bytes=peak, tokens=tokens, slices=slices_of(setup))
            )
        return probes

    def take_faster(
        self, best: Setup, measured: Measured, *, variants: Sequence[Setup]
    ) -> tuple[Setup, Measured]:
        """Time variants against the best so far, and return the fastest; small gains are ignored."""
        compared = self.compare([best, *variants], reference=best, known=True)
        times = compared[0][0].update_s(compared[0][1])
        kept = compared[0] if times else (best, measured)
        gain = WORTH
        for setup, its in compared[1:]:
            ratio = speed_ratio(setup.update_s(its), times)
            if its.update_s and (ratio > gain or not times):
                kept, gain = (setup, its), ratio
            elif its.update_s:
                reason = "gain below 2%" if ratio <= WORTH else "another variant is faster"
                self.decide(setup, f"rejected: {ratio:.2f}x, {'slower' if ratio < 1 else reason}")
        if kept[0] is not best:
            self.decide(kept[0], f"selected: {gain:.2f}x the previous best")
        return kept

    @property
    def late(self) -> bool:
        """Whether the remaining time is too short for another trial."""
        return self.left_s < 0.1 * self.options.budget_s

    @property
    def spent_s(self) -> float:
        """Seconds since the search began."""
        return time.monotonic() - self._started

    @property
    def left_s(self) -> float:
        """Remaining seconds of the budget."""
        return self.options.budget_s - self.spent_s

    def ask(
        self,
        setups: Sequence[Setup],
        *,
        timing_s: float,
        survey: bool = False,
        lengths: bool = False,
        least_s: float = _SHORTEST_TRIAL_S,
    ) -> Answer:
        """Measure setups in one child; with `survey`, also set the memory budget.

        The timeout is the remaining time, but at least `least_s` seconds.

        Raises:
            ValueError: for a user error reported by the child.
            TuningError: when no child could report the device's facts.
        """
        limit = self.cap_bytes or self.options.memory_bytes
        job = Job(
            tuple(setup.case for setup in setups), self.options.device, timing_s,
            self.budget_bytes or None, limit, survey, lengths,
        )  # fmt: skip
        answer = self._measurer.measure(job, timeout_s=max(self.left_s, least_s))
        if answer.problem:
            raise ValueError(answer.problem)
        if survey:
            if answer.facts is None:
                raise TuningError(f"no trial could be started: {answer.cases[0].message}")
            self.facts = answer.facts
            self._set_budget(answer.facts)
        return answer

    def _set_budget(self, facts: Facts) -> None:
        options = self.options
        available = memory_cap(facts.total_bytes, facts.free_bytes, own=facts.own_bytes)
        self.cap_bytes = options.memory_bytes or available
        self.budget_bytes = int(self.cap_bytes * (1 - options.free))

    def compare(
        self, setups: Sequence[Setup], *, reference: Setup, known: bool = False
    ) -> list[tuple[Setup, Measured]]:
        """Time setups in turn, add a row for each, and return them with their measurements.

        Args:
            setups: the setups to time.
            reference: one of them; the others are compared with it round by round.
            known: the reference has a row already; otherwise it is the unchanged preset.
        """
        timing_s = min(_TIMING_S, 0.05 * self.options.budget_s)
        answer = self.ask(setups, timing_s=timing_s)
        compared = list(zip(setups, answer.cases, strict=True))
        times = next(s.update_s(m) for s, m in compared if s is reference)
        base = self.ratio_of(reference) if known else 1.0
        for setup, measured in compared:
            if not (known and setup is reference):
                self.add_row(
                    setup, measured, ratio=base * speed_ratio(setup.update_s(measured), times)
                )
        return compared

    def smallest(self, compared: Sequence[tuple[Setup, Measured]]) -> tuple[Setup, Measured]:
        """Return the first of the setups, in order of size, within 2 % of the fastest.

        Raises:
            TuningError: when none was timed.
        """
        timed = [(s, m) for s, m in compared if m.update_s]
        if not timed:
            raise TuningError(
                f"no batch could be timed: {compared[0][1].message or 'time budget used up'}"
            )
        # Rounds are interleaved, so that other load on the machine affects all setups alike.
        last, its = timed[-1]
        speeds = [speed_ratio(s.update_s(m), last.update_s(its)) for s, m in timed]
        place = next(i for i, speed in enumerate(speeds) if speed * WORTH >= max(speeds))
        self.decide(timed[place][0], "selected: smallest within 2% of the fastest")
        return timed[place]

    def add_row(self, setup: Setup, measured: Measured, *, ratio: float = 0.0) -> None:
        """Add the measurements of a setup to the table, and report them."""
        words = {
            "measured": "measured", "over": "rejected: exceeds the memory budget",
            "oom": "rejected: out of memory", "timeout": f"rejected: {measured.message}",
            "failed": f"rejected: failed, {measured.message}",
        }  # fmt: skip
        speed = setup.items_per_s(measured)
        row = Row(
            setup.label, setup.count, setup.micro_batches, setup.shape, measured.peak_bytes, speed,
            speed * (setup.shape[0] if setup.shape else self.item_s), ratio, words[measured.outcome],
        )  # fmt: skip
        self.rows.append(row)
        self._emit(row)

    def ratio_of(self, setup: Setup) -> float:
        """Return the speed of a setup relative to the unchanged preset; 0: unknown."""
        place = self._place(setup)
        return 0.0 if place is None else self.rows[place].ratio

    def decide(self, setup: Setup, verdict: str) -> None:
        """Set the verdict of the newest row of a setup."""
        place = self._place(setup)
        if place is not None:
            self.rows[place] = replace(self.rows[place], verdict=verdict)

    def _place(self, setup: Setup) -> int | None:
        places = range(len(self.rows) - 1, -1, -1)
        same = (setup.label, setup.count)
        return next((i for i in places if (self.rows[i].label, self.rows[i].count) == same), None)


def slices_of(setup: Setup) -> int:
    """Return the number of slices in which a transducer's joint network runs."""
    return int(setup.values["batch"].get("split", 1))
