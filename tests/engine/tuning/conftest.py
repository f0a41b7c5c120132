"""A device made of arithmetic: memory and time of a case are formulas, so the best way is known."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import exp
from random import Random
from typing import Any

import pytest

from engine.tuning.race import Race, run_race
from engine.tuning.setups import Options
from engine.tuning.trials import Answer, Case, Facts, Job, Measured

MIB = 2**20
GIB = 2**30


@dataclass
class Noise:
    """Disturbs times by independent noise, drift that neighbours share, and occasional spikes.

    Attributes:
        seed: of its random numbers.
        spread: standard deviation of the logarithm of each time.
        drift: the same of the step of a slow random walk, from one timing to the next.
        spikes: probability that a timing takes 1.5 to 3 times as long.
    """

    seed: int
    spread: float = 0.1
    drift: float = 0.01
    spikes: float = 0.03

    def __post_init__(self) -> None:
        self._random = Random(self.seed)
        self._level = 0.0

    def factor(self) -> float:
        """Return by what the next timing is multiplied."""
        self._level = 0.98 * self._level + self._random.gauss(0, self.drift)
        spike = self._random.uniform(1.5, 3) if self._random.random() < self.spikes else 1.0
        return spike * exp(self._level + self._random.gauss(0, self.spread))


@dataclass
class Device:
    """Answers jobs by formulas.

    A micro-batch takes `call_s + B item_s` seconds, the optimiser `step_s`; each switch that is on
    multiplies the time by its factor. Memory is `fixed + B per_item` bytes, for items of length T
    `fixed + B (T per_s + T^2 per_s2) + ceil(B / S) joint T U`.
    """

    total: int = 8 * GIB
    fixed: int = 200 * MIB
    per_item: int = 100 * MIB
    per_s: int = 0
    per_s2: int = 0
    joint: int = 0
    call_s: float = 0.01
    item_s: float = 0.001
    step_s: float = 0.002
    factors: dict[tuple[str, Any], float] = field(default_factory=dict)
    memory: dict[tuple[str, Any], float] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    dies_at: tuple[str, Any] | None = None
    late: bool = False
    jobs: list[Job] = field(default_factory=list)
    noise: Noise | None = None
    now: float = 0.0

    def measure(self, job: Job, *, timeout_s: float) -> Answer:
        """Answer every case."""
        self.jobs.append(job)
        facts = Facts(
            "cuda",
            "Formula",
            total_bytes=self.total,
            free_bytes=self.total,
            own_bytes=0,
            **self.facts,
        )
        answers = [self._answer(case, job) for case in job.cases]
        if job.timing_s:
            answers = self._raced(job, answers)
        return Answer(tuple(answers), facts)

    def clock(self) -> float:
        """Return the seconds that measuring has taken so far."""
        return self.now

    def _raced(self, job: Job, answers: list[Measured]) -> list[Measured]:
        """Time the cases that fit, as a child does, on the clock of this device."""
        race = Race(len(job.cases), reference=job.reference, may_keep=job.may_keep)
        for index, answer in enumerate(answers):
            if answer.outcome != "measured":
                race.leave(index)

        def measure(index: int) -> float:
            case = job.cases[index]
            factor = self.noise.factor() if self.noise else 1.0
            passes = min(case.micro_batches, 2)
            once = self.seconds(case, passes)
            # As on a CPU: short updates are repeated for 0.1 s, after one that is not counted.
            self.now += once if once >= 0.25 else once + max(0.1, once)
            return factor * self.update_s(case)

        run_race(
            race, measure=measure, clock=self.clock, limit_s=job.timing_s, report=lambda times: None
        )
        return [replace(one, update_s=tuple(race.times[i])) for i, one in enumerate(answers)]

    def update_s(self, case: Case) -> float:
        """Return the seconds of a whole update."""
        return (
            self.step_s
            + sum(
                self.seconds(replace(case, count=part.count, shape=part.shape), 1)
                * part.micro_batches
                for part in case.parts
            )
            - self.step_s * sum(part.micro_batches for part in case.parts)
        )

    def peak(self, case: Case) -> float:
        """Return the bytes of a case."""
        length, tokens = (*case.shape, 0.0, 0.0)[:2]
        each = self.per_item + length * self.per_s + length**2 * self.per_s2
        in_slice = -(-case.count // case.values["batch"]["split"])
        grown = case.count * each + in_slice * self.joint * length * tokens
        return self.fixed + grown * self._product(case, self.memory)

    def seconds(self, case: Case, micro_batches: int) -> float:
        """Return the seconds of an update."""
        length = case.shape[0] if case.shape else 1.0
        one = self.call_s + case.count * self.item_s * length
        return micro_batches * one * self._product(case, self.factors) + self.step_s

    def _answer(self, case: Case, job: Job) -> Measured:
        if self.dies_at is not None and _is_on(case, *self.dies_at):
            return Measured("failed", message="SIGSEGV")
        if self.late and not job.timing_s and not job.survey:
            return Measured("timeout", message="timed out")
        peak = round(self.peak(case))
        if peak > self.total:
            return Measured("oom", message="out of memory")
        if job.budget_bytes is not None and peak > job.budget_bytes:
            return Measured("over", peak)
        return Measured("measured", peak)

    def _product(self, case: Case, factors: dict[tuple[str, Any], float]) -> float:
        found = 1.0
        for (key, value), factor in factors.items():
            found *= factor if _is_on(case, key, value) else 1.0
        return found


def _is_on(case: Case, key: str, value: Any) -> bool:
    section, name = key.split(".")
    return bool(case.values[section][name] == value)


@pytest.fixture
def new_device() -> type[Device]:
    """The class of devices made of arithmetic."""
    return Device


@pytest.fixture
def options() -> Options:
    """The options of a person who gives none."""
    return Options()
