"""Shared by all searches: measure in a child process, keep time and memory budgets, add rows, compare.

Free of torch: children do the measuring. Letters as in `setups`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import inf

from engine.config.errors import counted
from engine.tuning.law import Probe, memory_cap
from engine.tuning.race import UNIT, WORTH, Race, Ratio, replay
from engine.tuning.setups import Options, Row, Setup, TuningError
from engine.tuning.trials import Answer, Facts, Job, Measured, Measurer

Emit = Callable[[Row], None]
_SHORTEST_TRIAL_S = 20.0
# Shares of the budget: of the race between batch sizes, and of the last comparison with the preset.
FIRST_SHARE, CONFIRMATION = 0.6, 0.2


@dataclass(frozen=True, slots=True)
class Compared:
    """Setups that were raced, each with its measurements.

    Attributes:
        entries: setups and measurements.
        race: their times.
        reference: index of the setup that the others were compared with.
        known: it was measured before, too.
    """

    entries: tuple[tuple[Setup, Measured], ...]
    race: Race
    reference: int
    known: bool


@dataclass(frozen=True, slots=True)
class Found:
    """What the race between batch sizes chose.

    Attributes:
        best: the setup.
        measured: its measurements.
        preset: the unchanged preset; None: it can't run here.
        preset_measured: its measurements.
    """

    best: Setup
    measured: Measured
    preset: Setup | None
    preset_measured: Measured


class Bench:
    """Measures setups side by side.

    Args:
        options: the user's options.
        measurer: measures jobs.
        emit: called with each row as soon as it is measured.
        item_s: seconds of one item, for speeds in seconds of audio.
        clock: seconds.
    """

    def __init__(
        self,
        options: Options,
        *,
        measurer: Measurer,
        emit: Emit,
        item_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.options = options
        self._measurer = measurer
        self._emit = emit
        self._clock = clock
        self._started = clock()
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
        self, best: Setup, measured: Measured, *, variants: Sequence[Setup], limit_s: float
    ) -> tuple[Setup, Measured]:
        """Time variants against the best so far; return one that is shown to be faster, or the best."""
        compared = self.compare([best, *variants], reference=0, limit_s=limit_s, known=True)
        if not compared.race.times[0]:
            # Both configs together may need more memory than one alone, or the first round more time than there is.
            why = "rejected: could not be timed beside the best so far"
            for setup, its in compared.entries[1:]:
                if its.outcome == "measured":
                    self.decide(setup, "not timed: time budget used up" if self.late else why)
            return best, measured
        chosen, its = self.choose(compared)[0]
        return (best, measured) if chosen is best else (chosen, its)

    @property
    def late(self) -> bool:
        """Whether the remaining time is too short for another trial."""
        return self.left_s < 0.1 * self.options.budget_s

    @property
    def spent_s(self) -> float:
        """Seconds since the search began."""
        return self._clock() - self._started

    @property
    def left_s(self) -> float:
        """Remaining seconds of the budget."""
        return self.options.budget_s - self.spent_s

    def share_s(self, share: float, *, reserve: float = 0.0) -> float:
        """Return a share of the remaining seconds, less a reserve in parts of the whole budget."""
        return max(0.0, share * (self.left_s - reserve * self.options.budget_s))

    def ask(
        self,
        setups: Sequence[Setup],
        *,
        timing_s: float,
        survey: bool = False,
        lengths: bool = False,
        least_s: float = _SHORTEST_TRIAL_S,
        reference: int | None = None,
        may_keep: bool = True,
    ) -> Answer:
        """Measure setups in one child; with `survey`, also set the memory budget.

        The timeout is the remaining time, but at least `least_s` seconds.

        Raises:
            ValueError: for a user error reported by the child.
            TuningError: when no child could report the device's facts.
        """
        limit = self.cap_bytes or self.options.memory_bytes
        job = Job(
            tuple(setup.case for setup in setups), self.options.device, timing_s, reference, may_keep,
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
        self,
        setups: Sequence[Setup],
        *,
        reference: int,
        limit_s: float,
        known: bool = False,
        may_keep: bool = True,
    ) -> Compared:
        """Race setups, and add a row for each.

        Args:
            setups: the setups to time, preferred ones first.
            reference: index of the one that the others are compared with, preferred above all.
            limit_s: time limit of the race.
            known: the reference has a row already; otherwise it is the unchanged preset.
            may_keep: the reference can be chosen.
        """
        answer = self.ask(setups, timing_s=limit_s, reference=reference, may_keep=may_keep)
        times = [measured.update_s for measured in answer.cases]
        race = replay(times, reference=reference, may_keep=may_keep)
        base = self.ratio_of(setups[reference]) if known else UNIT
        for index, (setup, measured) in enumerate(zip(setups, answer.cases, strict=True)):
            if not (known and index == reference):
                ratio = race.ratio(index, reference)
                of_preset = base.times(ratio) if base is not None and ratio.rounds else None
                self.add_row(setup, measured, ratio=of_preset)
        return Compared(tuple(zip(setups, answer.cases, strict=True)), race, reference, known)

    def choose(self, compared: Compared) -> tuple[tuple[Setup, Measured], bool]:
        """Return what a race chooses, and whether it is settled; write down why.

        Raises:
            TuningError: when none was timed.
        """
        race, entries = compared.race, compared.entries
        choice = race.choice()
        if choice is None:
            its = entries[0][1]
            why = "" if its.outcome == "timeout" else its.message
            used_up = (
                f"the time budget of {self.options.budget_s:g} s was used up (is the machine busy?); "
                "raise --budget-s"
            )
            raise TuningError(f"no batch could be timed: {why or used_up}")
        for index, (setup, measured) in enumerate(entries):
            is_earlier = compared.known and index == compared.reference
            if measured.update_s and index != choice.index and not is_earlier:
                self.decide(setup, _reason(race.ratio(index, choice.index)))
        rounds = counted(race.rounds, "round")
        if choice.index != compared.reference:
            what = "shown to be faster" if race.times[compared.reference] else "fastest"
            verdict = f"selected: {what}"
            if not choice.settled:
                verdict += f", undecided between several after {rounds}"
            self.decide(entries[choice.index][0], verdict)
        elif not compared.known:
            verdict = (
                "nothing is 2% faster" if choice.settled else f"no difference found in {rounds}"
            )
            self.decide(entries[choice.index][0], f"kept: {verdict}")
        return entries[choice.index], choice.settled

    def found(self, compared: Compared, *, may_keep: bool = True) -> Found:
        """Return what the race between batch sizes chose, and the preset if it may be kept.

        Raises:
            TuningError: when none was timed.
        """
        (best, measured), settled = self.choose(compared)
        preset, its = compared.entries[compared.reference]
        if not settled:
            self.notes.append(
                "not all batch sizes could be told apart in this time; --budget-s measures longer"
            )
        runs = may_keep and bool(its.update_s)
        return Found(best, measured, preset if runs else None, its)

    def add_row(self, setup: Setup, measured: Measured, *, ratio: Ratio | None = None) -> None:
        """Add the measurements of a setup to the table, and report them."""
        words = {
            "measured": "measured", "over": "rejected: exceeds the memory budget",
            "oom": "rejected: out of memory", "timeout": "not measured: time budget used up",
            "failed": f"rejected: failed, {measured.message}",
        }  # fmt: skip
        speed = setup.items_per_s(measured)
        row = Row(
            setup.label, setup.count, setup.micro_batches, setup.shape, measured.peak_bytes, speed,
            speed * (setup.shape[0] if setup.shape and not setup.mix else self.item_s), ratio, words[measured.outcome],
        )  # fmt: skip
        self.rows.append(row)
        self._emit(row)

    def ratio_of(self, setup: Setup) -> Ratio | None:
        """Return the speed of a setup relative to the unchanged preset; None: unknown, or it is that."""
        place = self._place(setup)
        return None if place is None else self.rows[place].ratio

    def decide(self, setup: Setup, verdict: str) -> None:
        """Set the verdict of the newest row of a setup."""
        place = self._place(setup)
        if place is not None:
            self.rows[place] = replace(self.rows[place], verdict=verdict)

    def _place(self, setup: Setup) -> int | None:
        places = range(len(self.rows) - 1, -1, -1)
        same = (setup.label, setup.count)
        return next((i for i in places if (self.rows[i].label, self.rows[i].count) == same), None)


def _reason(ratio: Ratio) -> str:
    """Return why a setup of this speed relative to the chosen one is not chosen."""
    if ratio.high == inf:
        return f"undecided: only {counted(ratio.rounds, 'round')} in the time left"
    if ratio.high < 1:
        return "rejected: slower"
    if ratio.high < WORTH:
        return "rejected: gain below 2%"
    return "rejected: no gain shown"


def slices_of(setup: Setup) -> int:
    """Return the number of slices in which a transducer's joint network runs."""
    return int(setup.values["batch"].get("split", 1))
