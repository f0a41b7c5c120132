"""Simulated experiments with a known truth, compared by the product's own code.

An experiment is V variants of S seeds, evaluated on N items. The value of a run on an item is

    item + delta of the variant + effect of the seed + (variant and item) + noise,

in dB. Effects of seeds have a spread of their own for each variant, and may be shared between variants by a
correlation; items may suit some variants better, on average none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.special import stdtrit

from jobs.comparison.compare import compare
from jobs.comparison.result import Comparison
from jobs.store.records import Curve, EvaluationRecord, RunRecord

NOTHING: dict[str, Any] = {
    "preset": "", "state": "finished", "stopping": False, "position": 0.0, "fingerprint": "",
    "parent": None, "created_at": 0.0, "started_at": 0.0, "ended_at": 0.0, "heartbeat_at": None,
    "pid": None, "attempts": 1, "audio_seconds": 0.0, "epochs": 1.0, "speed": None,
    "metric": "si_sdr", "best": None, "best_ema": None, "input_score": None, "message": "",
}  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """One kind of experiment.

    Attributes:
        seeds: of each variant, but the first where `seeds_of_first` says otherwise.
        spreads: standard deviation of the effect of the seed in each variant, dB; their number is V.
        deltas: how much better each variant is than the first, dB; none by default.
        correlation: of the effects of one seed in different variants.
        interaction: standard deviation of how much an item suits a variant, dB.
        noise: standard deviation of an item in a run, dB.
    """

    seeds: int
    items: int
    spreads: tuple[float, ...]
    deltas: tuple[float, ...] = ()
    correlation: float = 0.0
    interaction: float = 0.0
    noise: float = 1.0
    seeds_of_first: int | None = None

    def draw(self, generator: np.random.Generator) -> np.ndarray:
        """Return (V, S, N) values."""
        count = len(self.spreads)
        shared_S = generator.normal(size=self.seeds)
        own_VS = generator.normal(size=(count, self.seeds))
        mixed_VS = self.correlation**0.5 * shared_S + (1 - self.correlation) ** 0.5 * own_VS
        seed_VS = np.array(self.spreads)[:, None] * mixed_VS
        item_N = generator.normal(10, 5, self.items)
        suits_VN = generator.normal(0, self.interaction, (count, self.items))
        noise_VSN = generator.normal(0, self.noise, (count, self.seeds, self.items))
        delta_V = np.array(self.deltas or (0.0,) * count)
        values: np.ndarray = (
            item_N + delta_V[:, None, None] + seed_VS[:, :, None] + suits_VN[:, None] + noise_VSN
        )
        return values


@dataclass
class MemoryReader:
    """Answers what `compare` asks a store, from arrays.

    Attributes:
        values: run id -> update -> (N,) values.
    """

    records: list[RunRecord] = field(default_factory=list)
    values: dict[int, dict[int, np.ndarray]] = field(default_factory=dict)

    def add(self, variant: str, seed: int, *, values: dict[int, np.ndarray]) -> RunRecord:
        """Add a run; a batch is one item."""
        last = max(values)
        record = RunRecord(
            id=len(self.records) + 1, name=f"{variant}-s{seed}", seed=seed, experiment="e",
            variant=variant, updates=last, total_updates=last, items=last, train_seconds=3600.0,
            **NOTHING,
        )  # fmt: skip
        self.records.append(record)
        self.values[record.id] = values
        return record

    def runs(self) -> list[RunRecord]:
        """All runs."""
        return self.records

    def config(self, run_id: int) -> dict[str, Any]:
        """Settings that differ between variants only."""
        return {"model": self.records[run_id - 1].variant, "loss": {"kind": "l1"}}

    def latest(self, run_id: int) -> dict[str, float]:
        """Last value."""
        values = self.values[run_id]
        return {"si_sdr": float(values[max(values)].mean())}

    def evaluations(self, run_id: int) -> list[EvaluationRecord]:
        """All evaluations."""
        return [
            EvaluationRecord(run_id, update, train_seconds=float(update), items_key="items")
            for update in self.values[run_id]
        ]

    def item_results(self, run_id: int, updates: int, *, metric: str) -> list[float]:
        """Values of one evaluation."""
        values: list[float] = self.values[run_id][updates].tolist() if metric == "si_sdr" else []
        return values

    def curves(self, run_id: int, names: Sequence[str], *, max_points: int) -> dict[str, Curve]:
        """Curves of the means."""
        assert max_points > len(self.values[run_id])
        updates = list(self.values[run_id])
        means: list[float | None] = [float(self.values[run_id][k].mean()) for k in updates]
        curve = Curve(
            "si_sdr", "dB", bucket=1, updates=updates, low=means, high=means, mean=means, last=means
        )
        return {name: curve for name in names if name == "si_sdr"}


def experiment(cell: Cell, generator: np.random.Generator) -> MemoryReader:
    """Return a store with one experiment, each run evaluated once."""
    reader = MemoryReader()
    values_VSN = cell.draw(generator)
    for seed in range(cell.seeds):
        for variant, values_SN in enumerate(values_VSN):
            if variant == 0 and seed >= (cell.seeds_of_first or cell.seeds):
                continue
            reader.add(f"v{variant}", seed, values={100: values_SN[seed]})
    return reader


def answers(cell: Cell, repeats: int, *, seed: int, **options: Any) -> Iterator[Comparison]:
    """Compare that many experiments of a kind by `compare`, as the command does."""
    generator = np.random.default_rng(seed)
    for _ in range(repeats):
        reader = experiment(cell, generator)
        yield compare(reader, reader.records, metrics=["si_sdr"], **options)  # type: ignore[arg-type]


def welch(first_SN: np.ndarray, second_SN: np.ndarray, alpha: float = 0.05) -> bool:
    """Whether Welch's t test on the means of runs, the textbook's choice, sees a difference."""
    means = [first_SN.mean(axis=1), second_SN.mean(axis=1)]
    parts = [mean.var(ddof=1) / len(mean) for mean in means]
    squares = sum(part**2 / (len(mean) - 1) for part, mean in zip(parts, means, strict=True))
    freedom = sum(parts) ** 2 / squares
    gap = abs(means[1].mean() - means[0].mean())
    return bool(gap > stdtrit(freedom, 1 - alpha / 2) * sum(parts) ** 0.5)


def paired_t(first_SN: np.ndarray, second_SN: np.ndarray, alpha: float = 0.05) -> bool:
    """Whether the paired t test on the means of runs with equal seeds sees a difference."""
    gap_S = second_SN.mean(axis=1) - first_SN.mean(axis=1)
    half = stdtrit(len(gap_S) - 1, 1 - alpha / 2) * (gap_S.var(ddof=1) / len(gap_S)) ** 0.5
    return bool(abs(gap_S.mean()) > half)


def learning_curves(
    runs: dict[str, int], *, seeds: int, generator: np.random.Generator
) -> MemoryReader:
    """Return equal variants whose evaluations swing by 0.2 dB; each is evaluated as often as it says."""
    reader = MemoryReader()
    item_N = generator.normal(10, 5, 40)
    for variant, count in runs.items():
        for seed in range(seeds):
            level = generator.normal(0, 0.1)
            values = {
                round(1000 * (k + 1) / count): item_N
                + level
                + generator.normal(0, 0.2)
                + generator.normal(0, 0.5, 40)
                for k in range(count)
            }
            reader.add(variant, seed, values=values)
    return reader
