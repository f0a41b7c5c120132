"""What the trainer costs over a bare PyTorch loop: `python tests/bench/trainer_overhead.py`.

Same model, data, number of updates, fused AdamW and clipping; the trainer with all telemetry on (a
point of every curve per update, through an observer thread into SQLite), the average of the weights
off, since the bare loop has none. Both run in turn, several rounds; medians are compared.
"""

from __future__ import annotations

import argparse
import queue
import sqlite3
import statistics
import tempfile
import threading
from pathlib import Path
from time import perf_counter, thread_time
from typing import Any

import numpy as np
import torch
from torch import nn

from engine.batching.batch import Batch, Split
from engine.batching.items import MicroBatch
from engine.config.loading import load_config
from engine.config.schema import RunConfig
from engine.evaluation.result import Evaluation
from engine.events import Event, PointsRecorded, RunStarted
from engine.recipes.base import StepContext, StepOutput
from engine.training.trainer import Trainer
from models.configs import AudioUNetConfig
from models.registry import build_model


class BenchRecipe:
    """A model and one batch that is there already: what is left is the loop itself."""

    def __init__(self, size: str) -> None:
        self.size = size
        samples = 64 if size == "tiny" else 8_000
        self.x = torch.randn(8, 1, samples) * 0.1
        self.weight = torch.tensor(8.0)
        self.batch = Batch({"x": self.x})

    def build_model(self) -> nn.Module:
        torch.manual_seed(0)
        if self.size == "tiny":
            return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64))
        return build_model(AudioUNetConfig(width=8), channels=1, sources=1)

    def loss(self, model: nn.Module) -> torch.Tensor:
        error: torch.Tensor = model(self.x).flatten(1) - self.x.flatten(1)
        return error.square().mean(1)

    @property
    def loss_unit(self) -> str:
        return ""

    def sizes(self, split: Split) -> np.ndarray:
        return np.full((64, 1), 1.0)

    def manifest(self, split: Split) -> str:
        return split

    def fetch(self, split: Split, micro_batch: MicroBatch) -> Batch:
        return self.batch

    def step(self, model: nn.Module, batch: Batch, *, context: StepContext) -> StepOutput:
        return StepOutput(self.loss(model).sum(), self.weight)

    def evaluate(self, model: nn.Module, device: torch.device) -> Evaluation:
        return Evaluation({"val_loss": 0.0}, 0, num_excluded=0)

    def worst_batch(self, count: int, shape: tuple[float, ...] = ()) -> Batch:
        return self.batch


class SqliteSink:
    """Writes every point to SQLite on a thread of its own, as the run store's sink does."""

    def __init__(self, path: Path) -> None:
        self._queue: queue.SimpleQueue[PointsRecorded | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, args=(path,))
        self._thread.start()
        self.started = (0.0, 0.0)

    def on_event(self, event: Event) -> None:
        if isinstance(event, RunStarted):
            self.started = now()
        if isinstance(event, PointsRecorded):
            self._queue.put(event)

    def close(self) -> None:
        self._queue.put(None)
        self._thread.join()

    def _run(self, path: Path) -> None:
        store = sqlite3.connect(path)
        store.execute("PRAGMA journal_mode=WAL")
        store.execute("PRAGMA synchronous=NORMAL")
        store.execute("CREATE TABLE points (series INT, step INT, value REAL)")
        while (event := self._queue.get()) is not None:
            with store:
                for series, values in enumerate(event.series.values()):
                    rows = zip(event.updates.tolist(), values.tolist(), strict=True)
                    store.executemany(
                        "INSERT INTO points VALUES (?, ?, ?)", ((series, *row) for row in rows)
                    )
        store.close()


class RunOn:
    """A control that never stops a run."""

    def stop_reason(self) -> str | None:
        return None


def now() -> tuple[float, float]:
    """Return wall-clock time and the CPU time of this thread, in seconds."""
    return perf_counter(), thread_time()


def since(start: tuple[float, float]) -> tuple[float, float]:
    """Return the wall-clock and CPU seconds since `start`."""
    wall, cpu = now()
    return wall - start[0], cpu - start[1]


def bare(recipe: BenchRecipe, updates: int) -> tuple[float, float]:
    """Return the seconds (wall, CPU) of `updates` updates of a plain loop with clipping."""
    model = recipe.build_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    started = now()
    for _ in range(updates):
        optimizer.zero_grad()
        loss = recipe.loss(model).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return since(started)


def trained(recipe: BenchRecipe, updates: int) -> tuple[float, float]:
    """Return the seconds (wall, CPU) of `updates` updates of the trainer, from its start to its last point."""
    with tempfile.TemporaryDirectory() as folder:
        sink = SqliteSink(Path(folder) / "points.db")
        Trainer(
            bench_config(updates), recipe, folder=Path(folder), observers=[sink], control=RunOn()
        ).fit()
        seconds = since(sink.started)
        sink.close()
    return seconds


def bench_config(updates: int) -> RunConfig:
    """Return a run of `updates` updates without average, checkpoints or evaluation in between."""
    values: dict[str, Any] = {
        "data": {"kind": "bandwidth", "train": "unused", "valid": "unused"},
        "batch": {"items": 8, "micro_batch": 8},
        "schedule": {"length": f"{updates} updates", "kind": "cosine"},
        "ema": {"enabled": False},
        "validation": {"every": f"{updates} updates", "at_start": False},
        "checkpoint": {"every": f"{updates} updates", "best": []},
        "precision": {"device": "cpu"},
    }
    return load_config(values)


def main() -> None:
    """Print both, side by side."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=["tiny", "demo"], default="tiny")
    parser.add_argument("--updates", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    updates = options.updates or (4000 if options.size == "tiny" else 40)
    recipe = BenchRecipe(options.size)
    bare(recipe, updates // 4), trained(recipe, updates // 4)
    pairs = [(bare(recipe, updates), trained(recipe, updates)) for _ in range(options.rounds)]
    for column, clock in enumerate(("wall", "CPU of the training thread")):
        times = [(a[column], b[column]) for a, b in pairs]
        plain, ours = (statistics.median(t) * 1e6 / updates for t in zip(*times, strict=True))
        extra = statistics.median(b - a for a, b in times) * 1e6 / updates
        ratio = statistics.median(b / a for a, b in times)
        print(
            f"{options.size}, {clock}: bare {plain:.1f} us, trainer {ours:.1f} us an update; "
            f"paired {extra:+.1f} us, ratio {ratio:.3f}"
        )


if __name__ == "__main__":
    main()
