"""What slow metrics cost the training loop: `python tests/bench/slow_metrics.py`.

The same run with and without `validation.metrics`, in turn. The program that measures is replaced by one
that keeps a core busy, at the same low priority, until its run is over: so every update after the first
evaluation is made beside it. Compared are the updates between evaluations, by wall time and by CPU time
of the training thread, and what the evaluation pays for leaving its estimates in files.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from time import perf_counter, thread_time

from engine.config.loading import load_config
from engine.data.synthetic import write_dataset
from engine.events import Evaluated, Event
from engine.recipes.separation.recipe import SeparationRecipe
from engine.training import slow_metrics
from engine.training.trainer import Trainer

_BUSY = "import os\nos.nice(19)\nwhile os.getppid() != 1:\n    sum(range(10**5))\n"


class Clock:
    """A control and an observer: the times of the updates, and of the evaluation of whole files."""

    def __init__(self, updates: int) -> None:
        self.times: list[tuple[float, float]] = []
        self.evaluation_s = 0.0
        self._updates = updates

    def stop_reason(self) -> str | None:
        self.times.append((perf_counter(), thread_time()))
        return "enough" if len(self.times) == 2 * self._updates else None

    def on_event(self, event: Event) -> None:
        if (
            isinstance(event, Evaluated)
            and not event.late
            and event.counters.updates == self._updates
        ):
            self.evaluation_s = event.duration_s

    def per_update(self) -> tuple[float, float]:
        """Return the medians of wall and CPU seconds of an update after the evaluation."""
        later = self.times[self._updates + 2 :]
        gaps = [(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(later)]
        wall, cpu = zip(*gaps, strict=True)
        return statistics.median(wall), statistics.median(cpu)


def run(folder: Path, data: Path, *, updates: int, metrics: bool) -> Clock:
    validation = {
        "every": f"{10 * updates} updates", "at_start": False, "full_files": True,
        "full_every": f"{updates} updates",
    }  # fmt: skip
    if metrics:
        validation |= {"metrics": ["bss_sdr"], "metrics_every": f"{updates} updates"}
    config = load_config(
        {
            "data": {"kind": "stems", "train": str(data / "train"), "valid": str(data / "valid"), "rate_hz": 8_000, "segment_s": 0.25, "targets": ["voice"], "others": ["percussion", "noise"]},
            "model": {"kind": "audio_unet", "width": 4}, "batch": {"items": 2, "micro_batch": 2},
            "schedule": {"length": f"{10 * updates} updates"}, "ema": {"enabled": False},
            "validation": validation, "checkpoint": {"every": f"{10 * updates} updates", "best": ["bss_sdr_full"] if metrics else []},
            "precision": {"device": "cpu", "threads": 1},
        }
    )  # fmt: skip
    clock = Clock(updates)
    Trainer(config, SeparationRecipe(config), folder=folder, observers=[clock], control=clock).fit()
    return clock


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--updates", type=int, default=40)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        write_dataset(root / "data", seed=0, tracks=4, duration_s=10.0, rate_hz=8_000)
        program = root / "busy.py"
        program.write_text(_BUSY)
        slow_metrics._COMMAND = (sys.executable, str(program))
        ratios: list[tuple[float, float]] = []
        evaluations: list[tuple[float, float]] = []
        for number in range(options.rounds):
            found = {}
            for metrics in (False, True) if number % 2 else (True, False):
                folder = root / f"{number}-{metrics}"
                folder.mkdir()
                found[metrics] = run(
                    folder, root / "data", updates=options.updates, metrics=metrics
                )
            (wall, cpu), (wall_0, cpu_0) = found[True].per_update(), found[False].per_update()
            ratios.append((wall / wall_0, cpu / cpu_0))
            evaluations.append((found[True].evaluation_s, found[False].evaluation_s))
            print(
                f"round {number}: update {wall_0 * 1e3:.1f} ms alone; beside a measurement: wall x {wall / wall_0:.3f}, CPU x {cpu / cpu_0:.3f}",
                flush=True,
            )
        kept, plain = (statistics.median(times) for times in zip(*evaluations, strict=True))
        print(f"evaluation of whole files: {kept:.2f} s with estimates kept, {plain:.2f} s without")
        walls, cpus = zip(*ratios, strict=True)
        print(
            f"median of {len(ratios)} rounds: wall x {statistics.median(walls):.3f}, CPU of the training thread x {statistics.median(cpus):.3f}"
        )


if __name__ == "__main__":
    main()
