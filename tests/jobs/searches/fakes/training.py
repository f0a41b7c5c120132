"""A child process that trains nothing: its curve is a known function of the learning rate and the seed.

A run of learning rate `lr` approaches `final(lr, seed)` as its items go by, whatever its batch size.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Sequence
from random import Random

from engine.config.counters import Counters
from engine.events import CheckpointSaved, Control, Evaluated, Event, Observer, RunEnded, RunStarted
from jobs.child.runner import Job, main

BEST_LR = 3e-3
# From this rate on, a run diverges: its metric is no number.
DIVERGES = 0.5
# A rate with which training fails.
FAILS = 0.0425


def true_value(lr: float) -> float:
    """Return the value of a rate without noise: highest at `BEST_LR`."""
    return 12.0 - 3.0 * (math.log10(lr) - math.log10(BEST_LR)) ** 2


def final(lr: float, seed: int) -> float:
    """Return the value of a rate at the end, with the noise of a seed."""
    spread = float(os.environ.get("FAKE_SPREAD", "0"))
    return true_value(lr) + spread * Random(f"{lr!r} {seed}").gauss(0.0, 1.0)


def value(lr: float, seed: int, progress: float) -> float:
    """Return the value at a part of the run."""
    return math.nan if lr >= DIVERGES else final(lr, seed) - 6.0 * (1.0 - progress)


def pause_s(lr: float) -> float:
    """Return how long an update of a rate takes: `FAKE_UPDATE_S`, but for rates within `FAKE_FAST`."""
    low, high = (float(end) for end in os.environ.get("FAKE_FAST", "1:0").split(":"))
    return 0.001 if low <= lr <= high else float(os.environ.get("FAKE_UPDATE_S", "0.001"))


def train(job: Job, observers: Sequence[Observer], control: Control) -> RunEnded:
    """Pretend to train."""
    config, lr = job.config, job.config.optimizer.lr
    if lr == FAILS:
        raise RuntimeError("shapes do not match")
    items = config.batch.items
    length = config.schedule.length
    total = int(length.amount / (items if length.clock == "items" else 1))
    span = config.validation.every
    every = max(1, round(span.amount / (items if span.clock == "items" else 1)))
    saved = job.folder / "checkpoints" / "last-1" / "state.json"
    begin = json.loads(saved.read_text()) if saved.exists() else 0

    def at(update: int) -> Counters:
        return Counters(update, update, items=update * items, audio_seconds=0.5 * update * items)

    def emit(event: Event) -> None:
        for observer in observers:
            observer.on_event(event)

    def save(update: int) -> None:
        saved.parent.mkdir(parents=True, exist_ok=True)
        aside = saved.with_suffix(".aside")
        aside.write_text(json.dumps(update))
        aside.replace(saved)
        emit(
            CheckpointSaved(
                "last", str(saved.parent), counters=at(update), metrics={}, size_bytes=3
            )
        )

    emit(RunStarted(at(begin), total, begin, "cpu", 3, 10, 2))
    for update in range(begin + 1, total + 1):
        time.sleep(pause_s(lr))
        if update % every == 0 or update == total:
            metrics = {"si_sdr": value(lr, config.seed, update / total)}
            emit(Evaluated(at(update), metrics, {"si_sdr": "dB"}, 0.1, 2, 0))
        reason = control.stop_reason()
        if update == total or reason is not None:
            save(update)
        if reason is not None:
            return RunEnded("stopped", at(update), reason=reason)
    return RunEnded("finished", at(total), reason="reached its length")


if __name__ == "__main__":
    sys.exit(main(train=train))
