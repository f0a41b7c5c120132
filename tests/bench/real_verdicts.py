"""Verdicts on real runs: 30 of one config and 10 with a known difference, trained by the real worker.

    python tests/bench/real_verdicts.py HOME [--splits 400]

Trains 40 runs of seconds on synthetic audio into HOME (runs that are there already are kept), which
differ in their seed; ten of them learn at a hundredth of the rate. Then it compares, as `sepdash
compare` does, random groups of equal runs, where any verdict is false, and of different ones.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from engine.config.loading import load_config
from engine.config.schema import RunConfig
from engine.data.synthetic import write_dataset
from jobs import submit
from jobs.comparison.compare import compare
from jobs.home import Home
from jobs.store.reader import StoreReader
from jobs.store.records import RunRecord
from tests.jobs.small_training import WORKER

EQUAL, DIFFERENT = 30, 10
METRICS = ("si_sdr", "lsd", "val_loss")


def config(folder: Path, *, seed: int, lr: float) -> RunConfig:
    """Return a run of seconds, evaluated on 32 items."""
    return load_config(
        {
            "seed": seed,
            "data": {
                "kind": "bandwidth", "train": str(folder / "train"), "valid": str(folder / "valid"),
                "rate_hz": 8000, "segment_s": 0.5, "input_rates_hz": [2000, 4000],
            },
            "model": {"kind": "audio_unet", "width": 4},
            "batch": {"items": 4, "micro_batch": 4},
            "optimizer": {"lr": lr},
            "loss": {"windows": [256, 64]},
            "schedule": {"length": "60 updates"},
            "precision": {"threads": 1, "device": "cpu"},
            "validation": {"every": "30 updates", "max_items": 32},
            "checkpoint": {"every": "60 updates"},
        }
    )  # fmt: skip


def train(home: Home) -> None:
    """Train what is missing."""
    folder = home.root / "audio"
    if not folder.exists():
        write_dataset(folder, tracks=16, duration_s=8.0)
    runs = [("equal", seed, 1e-3) for seed in range(EQUAL)]
    runs += [("slow", seed, 1e-5) for seed in range(DIFFERENT)]
    with StoreReader(home.store) as reader:
        known = {run.name for run in reader.runs()}
    new = [
        submit.NewRun(config(folder, seed=seed, lr=lr), name=f"{kind}-{seed}", variant=kind)
        for kind, seed, lr in runs
        if f"{kind}-{seed}" not in known
    ]
    if new:
        submit.enqueue_all(home, new, experiment="real")
    subprocess.run([sys.executable, "-P", "-c", WORKER, str(home.root)], check=True)


def share(
    reader: StoreReader, first: list[RunRecord], second: list[RunRecord],
    *, seeds: int, shared: bool, splits: int,
) -> dict[str, dict[str, float]]:  # fmt: skip
    """Return the share of each verdict over random groups, by metric.

    With `shared`, runs of both sides have equal seeds; otherwise groups of one list are disjoint.
    """
    generator = np.random.default_rng(seeds)
    counts: dict[str, dict[str, float]] = {name: {} for name in METRICS}
    for _ in range(splits):
        if shared:
            places = generator.permutation(min(len(first), len(second)))[:seeds]
            sides = [[first[k] for k in places], [second[k] for k in places]]
        else:
            places = generator.permutation(len(first))[: 2 * seeds]
            sides = [[first[k] for k in places[:seeds]], [second[k] for k in places[seeds:]]]
        runs = [
            replace(run, variant=name)
            for name, side in zip("ab", sides, strict=True)
            for run in side
        ]
        answer = compare(
            reader, runs, metrics=METRICS, when="final", margins=dict.fromkeys(METRICS, 0.0)
        )
        for name in METRICS:
            verdict = answer.tables[name][1].verdict
            counts[name][verdict] = counts[name].get(verdict, 0) + 1 / splits
    return counts


def main() -> int:
    """Train, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("home", type=Path)
    parser.add_argument("--splits", type=int, default=400)
    options = parser.parse_args()
    home = Home(options.home.resolve())
    train(home)
    with StoreReader(home.store) as reader:
        runs = sorted(reader.runs(), key=lambda run: run.id)
        equal = [run for run in runs if run.variant == "equal"]
        slow = [run for run in runs if run.variant == "slow"]
        spread = np.std([reader.latest(run.id)["si_sdr"] for run in equal], ddof=1)
        gap = np.mean([reader.latest(run.id)["si_sdr"] for run in slow]) - np.mean(
            [reader.latest(run.id)["si_sdr"] for run in equal]
        )
        print(
            f"{len(equal)} equal runs: SI-SDR between seeds ±{spread:.3f} dB; slow ones {gap:+.3f} dB"
        )
        for (title, second, shared), seeds in product(
            (("equal runs", equal, False), ("slow ones", slow, True)), (1, 2, 3, 5)
        ):
            counts = share(reader, equal, second, seeds=seeds, shared=shared, splits=options.splits)
            for name, some in counts.items():
                text = ", ".join(
                    f"{verdict} {100 * part:.1f} %" for verdict, part in sorted(some.items())
                )
                print(f"{title}, {seeds} seeds a side, {name}: {text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
