"""Finished runs whose every value is known, to be compared."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np

from jobs.home import Home
from jobs.store.records import EvaluationRecord
from jobs.store.writer import StoreWriter

# How hard each item is: that matters far more than the variant, so only pairs show a difference.
HARD = np.random.default_rng(0).normal(10, 5, 30)


def add_experiment(
    home: Home, name: str, levels: Mapping[str, Mapping[int, float]], *, updates: int = 20,
    loss: str = "", state: str = "finished", items: int = len(HARD), metric: str = "si_sdr", scale: float = 1.0,
) -> list[int]:  # fmt: skip
    """Add runs NAME-VARIANT-SEED, evaluated half-way and at the end; return their ids.

    Args:
        levels: variant -> seed -> level above `HARD` at update 0; it rises by 0.01 an update.
        loss: kind of loss, and a name for a metric `val_loss` beside the first one; none if empty.
        items: number of validation items.
        scale: of all values.
    """
    ids = []
    with StoreWriter(home.create().store) as store:
        seeds = sorted({seed for of in levels.values() for seed in of})
        for seed, variant in ((s, v) for s in seeds for v in levels if s in levels[v]):
            row = {
                "name": f"{name}-{variant}-{seed}", "fingerprint": "", "seed": seed, "metric": metric,
                "config": json.dumps({"about": variant, "loss": {"kind": loss}}), "experiment": name, "variant": variant,
            }  # fmt: skip
            ids.append(store.insert_run(row))
            for at in (updates // 2, updates):
                values = scale * (HARD[:items] + levels[variant][seed] + at / 100)
                found = {metric: values} | ({"val_loss": -values} if loss else {})
                series = {key: [float(value.mean())] for key, value in found.items()}
                store.add_points(ids[-1], steps=[at], series=series, units={})
                store.add_results(
                    EvaluationRecord(ids[-1], at, train_seconds=360.0 * at, items_key="key"),
                    {key: value.tolist() for key, value in found.items()},
                )
            store.update_run(
                ids[-1], updates=updates, items=4 * updates, train_seconds=360.0 * updates
            )
            store.move(ids[-1], state, ("queued",))
    return ids


# `twice` is 1 dB above `base`, `same` has the seeds of `base` in another order, `noisy` varies by 0.5 dB.
BATCH = {
    "base": {0: 0.0, 1: 0.02, 2: 0.04},
    "twice": {0: 1.03, 1: 1.0, 2: 1.02},
    "same": {0: 0.02, 1: 0.01, 2: 0.0},
    "noisy": {0: 0.5, 1: -0.3, 2: 0.7},
}
ONE_SEED = {variant: {0: levels[0]} for variant, levels in BATCH.items()}
