"""`python -P -m engine.programs.tuning_trial`: measures the cases of one job, given as a line on stdin.

Answers are lines of JSON on stdout: facts, the case in progress, its measurements. A case that runs
out of memory is a valid answer; any other error ends this process, but not the search. The process
exits when its standard input closes, because nothing reads its answers any more.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from time import perf_counter
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

from engine.programs.pipes import answer_job, say
from engine.start_up import loading
from engine.tuning.machine import (
    cpu_name,
    limit_allocations,
    memory_of_machine,
    resident_bytes,
)
from engine.tuning.race import Race, run_race
from engine.tuning.trials import Case, Facts, Job, Measured, Part

if TYPE_CHECKING:
    import torch

    from engine.tuning.measuring import Subject, Timed

T = TypeVar("T")
_PACKING = {"micro_batch", "cap_s", "accumulation", "quadratic_s", "joint_tokens", "bin_items"}


def main() -> int:
    """Measure one job; return 0, or 2 for a user error."""
    return answer_job(lambda raw, answers: _Trial(_read_job(raw), answers).run())


def _read_job(raw: dict[str, Any]) -> Job:
    cases = tuple(_read_case(case) for case in raw.pop("cases"))
    return Job(cases=cases, **raw)


def _read_case(raw: dict[str, Any]) -> Case:
    mix = tuple(Part(**{**part, "shape": tuple(part["shape"])}) for part in raw["mix"])
    return Case(**{**raw, "shape": tuple(raw["shape"]), "mix": mix})


class _Trial:
    def __init__(self, job: Job, answers: TextIO) -> None:
        # torch is imported only here, once the thread that watches stdin runs.
        with loading():
            from engine.precision import resolve_device

        self._job = job
        self._answers = answers
        self._device = resolve_device(job.device)
        self._subjects: dict[str, Subject] = {}

    def run(self) -> None:
        facts = self._facts()
        say(self._answers, facts=asdict(facts))
        if self._job.limit_bytes is not None and self._device.type == "cpu":
            limit_allocations(self._job.limit_bytes - facts.own_bytes)
        timed: dict[int, Timed] = {}
        for index, case in enumerate(self._job.cases):
            say(self._answers, started=index)
            measured = self._measure(case, own_bytes=facts.own_bytes)
            say(self._answers, case=index, measured=asdict(measured))
            if measured.outcome == "measured" and self._job.timing_s:
                timed[index] = self._prepare(case)
        self._time(timed)
        say(self._answers, done=True)

    def _measure(self, case: Case, *, own_bytes: int) -> Measured:
        from engine.training.out_of_memory import first_line, is_out_of_memory
        from engine.tuning.measuring import measure_peaks

        message = ""
        try:
            subject = self._subject(case)
            others = sum(s.static_bytes for s in self._subjects.values() if s is not subject)
            peaks = measure_peaks(subject, case, others_bytes=others, own_bytes=own_bytes)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            message = first_line(error)
        for one in self._subjects.values():
            one.clear()
        if message:
            return Measured("oom", message=message)
        peak = max(peaks)
        budget = self._job.budget_bytes
        over = budget is not None and peak > budget
        return Measured("over" if over else "measured", peak)

    def _prepare(self, case: Case) -> Timed:
        from engine.tuning.measuring import Timed

        return Timed(self._subject(case), case)

    def _time(self, timed: dict[int, Timed]) -> None:
        """Race the cases whose memory suffices; report every round."""
        job = self._job
        race = Race(len(job.cases), reference=job.reference, may_keep=job.may_keep)
        for index in range(len(job.cases)):
            if index not in timed or not self._attempt(index, timed[index].warm_up):
                race.leave(index)
        run_race(
            race,
            measure=lambda index: self._attempt(index, timed[index].run),
            clock=perf_counter,
            limit_s=job.timing_s,
            report=lambda times: say(self._answers, round=times),
        )

    def _attempt(self, index: int, work: Callable[[], T]) -> T | None:
        """Run a part of a case; None, and its answer, when memory ran out."""
        from engine.training.out_of_memory import first_line, is_out_of_memory

        say(self._answers, started=index)
        try:
            return work()
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            problem = first_line(error)
        self._subject(self._job.cases[index]).clear()
        say(self._answers, case=index, measured=asdict(Measured("oom", message=problem)))
        return None

    def _subject(self, case: Case) -> Subject:
        from engine.config.loading import load_config
        from engine.tuning.measuring import Subject

        # How items are packed changes no network: cases that differ in nothing else share one.
        batch = {key: value for key, value in case.values["batch"].items() if key not in _PACKING}
        key = json.dumps({**case.values, "batch": batch}, sort_keys=True)
        if key not in self._subjects:
            self._subjects[key] = Subject(load_config(case.values), self._device)
        return self._subjects[key]

    def _facts(self) -> Facts:
        import torch

        device = self._device
        if device.type == "cuda":
            torch.cuda.set_device(device)
            free, total = torch.cuda.mem_get_info()
            name = torch.cuda.get_device_name()
            own = torch.cuda.memory_reserved()
        else:
            free, total = memory_of_machine()
            name, own = cpu_name(), resident_bytes()
        config_facts = self._look() if self._job.survey else {}
        return Facts(
            device.type, name, total_bytes=total, free_bytes=free, own_bytes=own,
            formats=number_formats(device), can_compile=has_compiler(device), **config_facts,
        )  # fmt: skip

    def _look(self) -> dict[str, Any]:
        """Return facts about the network of the first case, and its training items."""
        subject = self._subject(self._job.cases[0])
        subject.clear()
        facts: dict[str, Any] = {
            "has_2d": any(param.dim() == 4 for param in subject.model.parameters())
        }
        return facts | (subject.item_sizes() if self._job.sizes else {})


def number_formats(device: torch.device) -> tuple[str, ...]:
    """Return the number formats a device supports; trials measure their speed."""
    import torch

    if device.type == "cpu":
        return ("fp32", "bf16")
    major, _ = torch.cuda.get_device_capability(device)
    return ("fp32", "tf32", "bf16", "fp16") if major >= 8 else ("fp32", "fp16")


def has_compiler(device: torch.device) -> bool:
    """Return whether the compiler that `torch.compile` needs is installed."""
    from importlib.util import find_spec
    from shutil import which

    if device.type == "cuda":
        return find_spec("triton") is not None
    return any(which(name) for name in ("g++", "clang++", "c++"))


if __name__ == "__main__":
    sys.exit(main())
