"""A child process that trains nothing: it tells what a trainer tells, saves, resumes and obeys.

Curves are known functions of the update, so a test can tell a gap or a duplicate. What it does is
chosen by the run's seed: see `BEHAVIOURS`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence

import numpy as np

from engine.config.counters import Counters
from engine.events import (
    CheckpointSaved,
    Control,
    Evaluated,
    Event,
    Noticed,
    Observer,
    PointsRecorded,
    RunEnded,
    RunStarted,
)
from engine.training.interruption import Interrupted
from jobs.child.runner import Job, main

PLAIN, MISTAKE, BUG, DIES, DEAF, DIES_ONCE, TORN_ONCE = range(7)
BLOCK, SAVE_EVERY, EVALUATE_EVERY = 7, 50, 20


def loss(update: int) -> float:
    """Return the loss of an update."""
    return 1.0 / update


def train(job: Job, observers: Sequence[Observer], control: Control) -> RunEnded:
    """Pretend to train."""
    config, folder = job.config, job.folder
    if config.seed == MISTAKE:
        raise ValueError("data.train: no audio files in /nowhere; give a folder with some")
    total = int(config.schedule.length.amount)
    saved = folder / "checkpoints" / "last-1"
    begin = json.loads((saved / "state.json").read_text()) if saved.exists() else 0

    def tell(event: Event) -> None:
        for observer in observers:
            observer.on_event(event)

    def tell_points(first: int, last: int) -> None:
        if last >= first:
            updates = np.arange(first, last + 1)
            series = {"loss": 1.0 / updates, "updates_per_s": np.full(len(updates), 500.0)}
            tell(
                PointsRecorded(
                    updates, series, units={"updates_per_s": "1/s"}, counters=counters(last)
                )
            )

    def save(update: int) -> None:
        saved.mkdir(parents=True, exist_ok=True)
        aside = saved / "state.aside"
        aside.write_text(json.dumps(update))
        aside.replace(saved / "state.json")
        (saved / "manifest.json").write_text('{"files": {"state.json": {"sha256": "5"}}}')
        tell(
            CheckpointSaved("last", str(saved), counters=counters(update), metrics={}, size_bytes=3)
        )

    tell(
        RunStarted(
            counters(begin),
            total,
            resumed_from=begin,
            device="cpu",
            num_parameters=3,
            num_train_items=10,
            num_valid_items=2,
        )
    )
    told = begin
    for update in range(begin + 1, total + 1):
        time.sleep(0.002)
        misbehave(config.seed, update, begin)
        reason = None if config.seed == DEAF else control.stop_reason()
        due = update % SAVE_EVERY == 0 or update == total or reason is not None
        if update % BLOCK == 0 or due:
            tell_points(told + 1, update)
            told = update
        if update % EVALUATE_EVERY == 0:
            metrics = {"si_sdr": float(update), "si_sdr_ema": update / 2, "input_si_sdr": 3.0}
            tell(
                Evaluated(
                    counters(update),
                    metrics,
                    units={"si_sdr": "dB"},
                    duration_s=0.1,
                    num_items=2,
                    num_excluded=0,
                )
            )
        if due:
            save(update)
        if reason is not None:
            return RunEnded("stopped", counters(update), reason=reason)
    tell(Noticed("info", "tested", message="a notice"))
    return RunEnded("finished", counters(total), reason="reached its length")


def counters(updates: int) -> Counters:
    """Return counters of updates with two items each."""
    return Counters(updates, updates, items=2 * updates, audio_seconds=0.5 * updates)


def misbehave(seed: int, update: int, begin: int) -> None:
    """Break down in the way the seed says."""
    if seed == BUG and update == 3:
        raise RuntimeError("shapes do not match")
    if seed == TORN_ONCE and update == 60 and begin == 0:
        raise Interrupted("update 60: out of memory while updating the weights")
    if (seed == DIES and update == 3) or (seed == DIES_ONCE and update == 60 and begin == 0):
        os.kill(os.getpid(), 9)


if __name__ == "__main__":
    sys.exit(main(train=train))
