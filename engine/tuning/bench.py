"""What every search does: ask a child, keep the budget of time and memory, write rows, compare.

Free of torch: measuring is a child's work. Letters as in `setups`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from engine.tuning.law import Probe, memory_cap
from engine.tuning.setups import Options, Row, Setup, TuningError, speed_ratio
from engine.tuning.trials import Answer, Facts, Job, Measured, Measurer

Tell = Callable[[Row], None]
# A smaller batch this close to the fastest is preferred; a switch must gain more than this.
WORTH = 1.02
_TIMING_S = 1.5
_SHORTEST_TRIAL_S = 20.0


class Bench:
    """Measures setups side by side.

    Args:
        options: what is asked for.
        measurer: measures jobs.
        tell: hears each row as soon as it is known.
        item_s: seconds of one item, for speeds in seconds of audio.
    """

    def __init__(self, options: Options, *, measurer: Measurer, tell: Tell, item_s: float) -> None:
        self.options = options
        self._measurer = measurer
        self._tell = tell
        self._started = time.monotonic()
        self.rows: list[Row] = []
        self.notes: list[str] = []
        self.cap_bytes = self.budget_bytes = 0
        self.item_s = item_s
        self.facts: Facts

    def measure_probes(self, setups: Sequence[Setup]) -> list[Probe]:
        """Measure the memory of some setups, learn about the device, and set the budget.

        Raises:
            TuningError: when one of them could not be measured.
        """
        answer = self.ask(setups, timing_s=0.0, survey=True)
        probes = []
        for setup, measured in zip(setups, answer.cases, strict=True):
            peak = measured.peak_bytes
            if measured.outcome == "oom" and setup.count > 1 and not setup.shape:
                # All that is known: more than there is. So the law lets no second item in.
                peak = max(self.cap_bytes, self.facts.total_bytes) + 1
                self.notes.append(f"{setup.count} items at once don't fit")
            elif measured.outcome == "oom":
                some = "one of the longest items doesn't"
                if setup.count > 1:
                    some = f"{setup.count} of the longest items don't"
                raise TuningError(
                    f"{some} fit on {self.facts.device_name}: "
                    f"{measured.message}; make items shorter or the model smaller, or allow more "
                    "(--memory)"
                )
            elif not peak:
                raise TuningError(f"nothing could be measured: {measured.message}")
            length, tokens = (*setup.shape, 0.0, 0.0)[:2] if setup.shape else (self.item_s, 0.0)
            probes.append(Probe(setup.count, length, peak, tokens, slices_of(setup)))
        return probes

    def take_faster(
        self, best: Setup, measured: Measured, variants: Sequence[Setup]
    ) -> tuple[Setup, Measured]:
        """Time variants beside the best so far, and return whichever is worth it."""
        found = self.compare([best, *variants], reference=best, known=True)
        times = found[0][0].update_s(found[0][1])
        kept = found[0] if times else (best, measured)
        gain = WORTH
        for setup, its in found[1:]:
            ratio = speed_ratio(setup.update_s(its), times)
            if its.update_s and (ratio > gain or not times):
                kept, gain = (setup, its), ratio
            elif its.update_s:
                word = "slower" if ratio < 1 else "no gain worth it"
                self.decide(setup, f"left: {ratio:.2f} x, {word}")
        if kept[0] is not best:
            self.decide(kept[0], f"taken: {gain:.2f} x the best before")
        return kept

    @property
    def late(self) -> bool:
        """Whether too little time is left for another trial."""
        return self.left_s < 0.1 * self.options.budget_s

    @property
    def spent_s(self) -> float:
        """Seconds since the search began."""
        return time.monotonic() - self._started

    @property
    def left_s(self) -> float:
        """Seconds of the budget that are left."""
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
        """Measure setups in one child; a first answer also sets the budget.

        It may take what is left of the time, and `least_s` seconds whatever is left.

        Raises:
            ValueError: for a mistake of the user's that the child found.
            TuningError: when no child could tell anything about the device.
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
        found = memory_cap(facts.total_bytes, facts.free_bytes, facts.own_bytes)
        self.cap_bytes = options.memory_bytes or found
        self.budget_bytes = int(self.cap_bytes * (1 - options.free))

    def compare(
        self, setups: Sequence[Setup], *, reference: Setup, known: bool = False
    ) -> list[tuple[Setup, Measured]]:
        """Time setups in turn, write a row for each, and return them with what was measured.

        Args:
            setups: what to time.
            reference: one of them, which the others are compared with round by round.
            known: the reference has a row already, else it is the preset as it is.
        """
        timing_s = min(_TIMING_S, 0.05 * self.options.budget_s)
        answer = self.ask(setups, timing_s=timing_s)
        found = list(zip(setups, answer.cases, strict=True))
        times = next(s.update_s(m) for s, m in found if s is reference)
        base = self.ratio_of(reference) if known else 1.0
        for setup, measured in found:
            if not (known and setup is reference):
                self.add_row(
                    setup, measured, ratio=base * speed_ratio(setup.update_s(measured), times)
                )
        return found

    def smallest(self, found: Sequence[tuple[Setup, Measured]]) -> tuple[Setup, Measured]:
        """Return the first of setups, by rising size, that is within 2 % of the fastest.

        Raises:
            TuningError: when none was timed.
        """
        timed = [(s, m) for s, m in found if m.update_s]
        if not timed:
            raise TuningError(f"no batch could be timed: {found[0][1].message or 'out of time'}")
        # Rounds were run in turn, so that a busy moment of the machine is in all of them.
        last, its = timed[-1]
        speeds = [speed_ratio(s.update_s(m), last.update_s(its)) for s, m in timed]
        place = next(i for i, speed in enumerate(speeds) if speed * WORTH >= max(speeds))
        self.decide(timed[place][0], "taken: the smallest within 2 % of the fastest")
        return timed[place]

    def add_row(self, setup: Setup, measured: Measured, *, ratio: float = 0.0) -> None:
        """Write what was measured of a setup into the table, and tell it."""
        words = {
            "measured": "measured", "over": "left: over the memory that may be used",
            "oom": "left: out of memory", "timeout": f"left: {measured.message}",
            "failed": f"left: failed, {measured.message}",
        }  # fmt: skip
        speed = setup.items_per_s(measured)
        row = Row(
            setup.label, setup.count, setup.micro_batches, setup.shape, measured.peak_bytes, speed,
            speed * (setup.shape[0] if setup.shape else self.item_s), ratio, words[measured.outcome],
        )  # fmt: skip
        self.rows.append(row)
        self._tell(row)

    def ratio_of(self, setup: Setup) -> float:
        """Return the speed of a setup over that of the preset as it is; 0: unknown."""
        place = self._place(setup)
        return 0.0 if place is None else self.rows[place].ratio

    def decide(self, setup: Setup, verdict: str) -> None:
        """Put the verdict into the newest row of a setup."""
        place = self._place(setup)
        if place is not None:
            self.rows[place] = replace(self.rows[place], verdict=verdict)

    def _place(self, setup: Setup) -> int | None:
        places = range(len(self.rows) - 1, -1, -1)
        same = (setup.label, setup.count)
        return next((i for i in places if (self.rows[i].label, self.rows[i].count) == same), None)


def slices_of(setup: Setup) -> int:
    """Return in how many slices the joint network of a transducer runs."""
    return int(setup.values["batch"].get("split", 1))
