"""A worker without processes: it claims runs of a store and writes the curve of a known function."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from engine.config.loading import load_config
from engine.config.schema import RunConfig
from engine.training.schedules import total_updates
from jobs.home import Home
from jobs.machine.processes import own_token
from jobs.searches.control import start
from jobs.searches.serving import Searches
from jobs.store.outcomes import end, requeue
from jobs.store.reader import StoreReader
from jobs.store.records import EvaluationRecord, RunRecord
from jobs.store.writer import StoreWriter
from jobs.sweeps.plan import plan_sweep
from presets.catalogue import Catalogue

# config, progress from 0 to 1 -> value of the metric
Curve = Callable[[RunConfig, float], float]

PRESET = """
[data]
kind = "bandwidth"
train = "{folder}/train"
valid = "{folder}/valid"
rate_hz = 8000
segment_s = 0.5
input_rates_hz = [2000, 4000]
[batch]
items = 4
micro_batch = 4
[schedule]
length = "100 updates"
[optimizer]
lr = 1e-4
[validation]
every = "10 updates"
"""


class Simulation:
    """A home with a preset `tiny`, searches on it, and a worker that makes their runs."""

    def __init__(
        self, home: Home, *, data: Path, curve: Curve, metric: str = "si_sdr",
        items: int = 0, item_spread: float = 1.0, salt: int = 0,
    ) -> None:  # fmt: skip
        self.home = home
        self.metric = metric
        self._curve = curve
        self._items = items
        self._item_spread = item_spread
        self._salt = salt
        home.create()
        (home.presets / "tiny.toml").write_text(PRESET.format(folder=data))
        self.said: list[str] = []
        # Whether runs end by themselves before a stop reaches them.
        self.too_fast = False
        self.searches = Searches(home, echo=self.said.append)
        self.store = StoreWriter(home.store)
        self._worker = self.store.add_worker("cpu", pid=os.getpid(), token=own_token())
        self.reader = StoreReader(home.store)

    def close(self) -> None:
        self.searches.close()
        self.store.close()
        self.reader.close()

    def start(
        self, name: str = "lr", *, file: Mapping[str, Any] | None = None, **search: Any
    ) -> str:
        """Start or continue a search; `file` is what the experiment holds beside it."""
        values = {"base": "tiny", **(file or {}), "search": search}
        return start(self.home, plan_sweep(name, values, Catalogue(self.home.presets)))

    def runs(self, experiment: str = "lr:trials") -> dict[str, RunRecord]:
        """Return the runs of an experiment by variant, or by name where a variant has several."""
        mine = [run for run in self.reader.runs() if run.experiment == experiment]
        return {run.variant: run for run in sorted(mine, key=lambda run: run.id)}

    def config(self, run: RunRecord) -> RunConfig:
        return load_config(self.reader.config(run.id))

    def train_all(self, limit: int = 10_000) -> int:
        """Make runs until none is left; return how many."""
        count = 0
        while count < limit and self.train_next():
            count += 1
        return count

    def train_next(self, *, until: float = 1.0) -> RunRecord | None:
        """Make the next run up to a part of it, proposing one where none is queued."""
        self.searches.tend(propose=True)
        claimed = self.store.claim(self._worker)
        if claimed is None:
            return None
        return self.train(claimed, until=until)

    def train(self, run_id: int, *, until: float = 1.0) -> RunRecord:
        """Make a claimed run up to a part of it; it stops when it is asked to."""
        config = load_config(self.reader.config(run_id))
        total = total_updates(config.schedule.length, config.update_size)
        every = round(config.update_size.updates_in(config.validation.every))
        begin = self.reader.run(run_id).updates
        self.store.update_run(run_id, total_updates=total)
        for update in range(begin // every * every + every, int(total * until) + 1, every):
            self._evaluate(run_id, update, config=config, total=total)
            self.searches.tend(propose=False)
            if self.reader.run(run_id).stopping and not self.too_fast:
                requeue(
                    self.store, run_id, claim=self._worker, message="stop requested", counts=False
                )
                return self.reader.run(run_id)
        if until >= 1.0:
            end(self.store, run_id, claim=self._worker, to="finished")
        return self.reader.run(run_id)

    def _evaluate(self, run_id: int, update: int, *, config: RunConfig, total: int) -> None:
        value = self._curve(config, update / total)
        if self._items:
            value = self._add_items(run_id, update, value=value)
        self.store.add_points(run_id, steps=[update], series={self.metric: [value]}, units={})
        items = update * config.batch.items
        self.store.update_run(run_id, updates=update, items=items)

    def _add_items(self, run_id: int, update: int, *, value: float) -> float:
        """Write values of items around that of the run; return their mean.

        The levels of the items are those of all runs; how a run does on each of them is its own.
        """
        levels = np.random.default_rng(self._salt).normal(0.0, 3.0, self._items)
        own = np.random.default_rng([self._salt, run_id]).normal(
            0.0, self._item_spread, self._items
        )
        values = value + levels - levels.mean() + own - own.mean()
        record = EvaluationRecord(run_id, update, train_seconds=float(update), items_key="items")
        self.store.add_results(record, {self.metric: values.tolist()})
        return float(values.mean())
