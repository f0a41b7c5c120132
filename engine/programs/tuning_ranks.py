"""`python -P -m engine.programs.tuning_ranks JOB.json`: one of the processes that time several devices.

Torchrun starts them, one for each device. Updates are those of the trainer, on synthetic batches, with
the sum over all processes. The first process answers in lines of JSON on stdout: times of each round, then
that it is done. All decide alike, since all see the times of all. They exit when their standard input
closes, because nothing reads the answers any more.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, TextIO

from engine.programs.pipes import end_with_stdin, open_answers, say
from engine.start_up import loading
from engine.tuning.race import Race, run_race
from engine.tuning.scaling import ScalingJob, ways

if TYPE_CHECKING:
    from engine.config.schema import RunConfig
    from engine.training.ranks import Ranks

# More micro-batches are extrapolated from the time of these by themselves.
_MOST_MEASURED = 4
_ROUND_S = 0.1


def main() -> int:
    """Measure the job of a file; return 0, or 2 for a user error."""
    answers = open_answers()
    raw = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    job = ScalingJob(**{**raw, "shape": tuple(raw["shape"])})
    end_with_stdin()
    # torch is imported only here, once the thread that watches stdin runs.
    with loading():
        from engine.config.loading import load_config
        from engine.training.ranks import open_ranks

    config = load_config(job.values)
    with open_ranks(config.precision) as ranks:
        own = answers if ranks.rank == 0 else None
        try:
            _Rank(job, config, ranks=ranks, answers=own).run()
        except (ValueError, OSError) as error:
            say(own, problem=str(error))
            return 2
    return 0


class _Rank:
    def __init__(
        self, job: ScalingJob, config: RunConfig, *, ranks: Ranks, answers: TextIO | None
    ) -> None:
        from engine.precision import resolve_device
        from engine.tuning.measuring import Subject

        self._job = job
        self._ranks = ranks
        self._answers = answers
        device = ranks.device or resolve_device(config.precision.device)
        self._subject = Subject(config, device, ranks=ranks)
        self._batches = self._subject.batches(job.count, job.shape)
        self._ways = ways(job)
        # Of each way, and of this device by itself: updates of a round, the same for all processes.
        self._repeats: dict[object, int] = {}

    def run(self) -> None:
        """Race the ways; then time each device by itself."""
        race = Race(len(self._ways), reference=0)
        for _ in range(2):
            # What the first updates took says nothing about how many fill a round.
            self._repeats.clear()
            for index in race.active[:]:
                if self._measure(index) is None:
                    race.leave(index)
        run_race(
            race,
            measure=self._measure,
            clock=lambda: float(self._ranks.gather(perf_counter())[0]),
            limit_s=self._job.limit_s,
            report=lambda times: say(self._answers, round=times),
        )
        for _ in range(max(6, min(20, race.rounds))):
            seconds = self._together(
                "own", lambda: self._time("own", _MOST_MEASURED, alone=True)[0]
            )
            if seconds is None:
                break
            say(self._answers, own=seconds)
        say(self._answers, done=True)

    def _measure(self, index: int) -> float | None:
        """Return the seconds that a way takes for the items of one device's update; None: out of memory."""
        devices, micro_batches = self._ways[index]
        measured = min(micro_batches, _MOST_MEASURED)
        if devices == 1:
            seconds = self._together(index, lambda: self._time_alone(index, measured))
        else:
            seconds = self._together(index, lambda: sum(self._time(index, measured, alone=False)))
        if seconds is None:
            return None
        update_s = seconds[0] if devices == 1 else max(seconds)
        if devices > 1 and micro_batches > measured:
            passes = self._together(
                f"{index} passes", lambda: self._time(index, measured, alone=True)[0]
            )
            if passes is None:
                return None
            update_s += (micro_batches - measured) / measured * max(passes)
        return update_s * self._ways[0][1] / (devices * micro_batches)

    def _time_alone(self, index: int, measured: int) -> float:
        """Return the seconds of a whole update of the first device, while the others wait."""
        import torch

        if self._ranks.rank:
            return 0.0
        before = torch.get_num_threads()
        if self._job.threads:
            torch.set_num_threads(self._job.threads)
        passes, optimizer = self._time(index, measured, alone=True)
        torch.set_num_threads(before)
        return passes * self._ways[index][1] / measured + optimizer

    def _time(self, key: object, measured: int, *, alone: bool) -> tuple[float, float]:
        """Return the mean seconds of an update before its optimizer phase, and of that phase."""
        from engine.tuning.measuring import time_update

        subject, batches = self._subject, self._batches * measured
        repeats = self._repeats.get((key, alone), 1)
        with subject.settings():
            rounds = [time_update(subject, batches, together=not alone) for _ in range(repeats)]
        update_s = sum(update for update, _ in rounds) / repeats
        optimizer_s = sum(optimizer for _, optimizer in rounds) / repeats
        return update_s - optimizer_s, optimizer_s

    def _together(self, key: object, work: Callable[[], float]) -> list[float] | None:
        """Do the same on all processes; return what each returns, or None when memory ran out on one."""
        from engine.training.out_of_memory import is_out_of_memory

        self._ranks.gather(None)
        started = perf_counter()
        value: float | None = None
        try:
            value = work()
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        if value is None:
            self._subject.clear()
        answers = self._ranks.gather((value, perf_counter() - started))
        values = [value for value, _ in answers]
        if any(value is None for value in values):
            return None
        # The first round shows how many updates fill the time of a round.
        taken = max(seconds for _, seconds in answers)
        for alone in (False, True):
            known = self._repeats.get((key, alone))
            if known is None:
                self._repeats[key, alone] = max(1, min(50, round(_ROUND_S / max(taken, 1e-4))))
        return [float(value) for value in values]


if __name__ == "__main__":
    sys.exit(main())
