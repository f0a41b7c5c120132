"""Planning time, padding, and batches over the cap: our batch plans beside Lhotse's dynamic buckets.

    python tests/bench/batch_plans.py [--utterances 1000000] [--lhotse 200000]

Lhotse is no dependency of this project: `uv run --with lhotse python tests/bench/batch_plans.py`
has it for one run, and without it its row is left out. Lengths are drawn like those of LibriSpeech's
960 hours of training data (281 241 utterances, 12.3 s on average, 1.3 to 35 s): recordings were cut at
silences before 17 s, so that half of them lie between 13 and 16 s, the shorter ones
thin out towards 1.3 s, and a few are longer, up to 35 s.
"""

from __future__ import annotations

import argparse
import gc
import time
from dataclasses import dataclass

import numpy as np

from engine.batching.capped_plan import CappedPlan
from engine.batching.exact import ExactPlan
from engine.batching.open_plan import open_plan
from engine.batching.plan import Plan
from engine.batching.report import report_on
from engine.config.loading import load_config

CAP_S = 320.0
RESUME_AT = 54_321


def librispeech_like(count: int, *, seed: int = 0) -> np.ndarray:
    """Return (count,) durations in seconds."""
    random = np.random.default_rng(seed)
    cut_at_silence = random.normal(14.75, 1.05, count)
    shorter = random.triangular(1.0, 11.0, 15.3, count)
    longer = 17.0 + random.exponential(2.5, count)
    which = random.random(count)
    durations = np.where(which < 0.56, cut_at_silence, np.where(which < 0.995, shorter, longer))
    return np.clip(np.round(durations, 3), 1.3, 35.0)


@dataclass(frozen=True)
class Row:
    """One way of planning, measured; `each_ms` is what packing an update of mode exact takes."""

    name: str
    count: int
    plan_s: float
    batches: int
    padding: float
    over_cap: float
    largest: float
    idle: float = 0.0
    each_ms: float = 0.0


def ours(name: str, sizes: np.ndarray, *, world: int = 1, **batch: object) -> Row:
    """Plan one epoch: every batch of the capped modes, the items of every update of exact."""
    config = load_config(
        {
            "data": {"kind": "bandwidth", "train": "t", "valid": "v"},
            "batch": {"micro_batch": 4096, **batch},
        }
    )
    gc.collect()
    begin = time.process_time()
    plan: Plan = open_plan(config, sizes, manifest="", world=world)
    if isinstance(plan, ExactPlan):
        for update in range(int(plan.updates_per_epoch)):
            plan.update_items(update)
    plan.micro_batches(0)
    plan_s = time.process_time() - begin
    report = report_on(plan, sizes)
    each_ms = 0.0
    if isinstance(plan, ExactPlan):
        begin = time.process_time()
        for update in range(300, 350):
            plan.packed(update)
        each_ms = (time.process_time() - begin) / 50 * 1e3
    else:
        assert isinstance(plan, CappedPlan)
        fresh = open_plan(config, sizes, manifest="", world=world)
        assert fresh.micro_batches(RESUME_AT) == plan.micro_batches(RESUME_AT)
    return Row(
        name, len(sizes), plan_s, report.micro_batches, report.padding_share,
        report.over_cap / report.micro_batches, report.largest, report.idle_share, each_ms,
    )  # fmt: skip


def lhotse(sizes: np.ndarray, *, buckets: int) -> Row | None:
    """Walk one epoch of Lhotse's sampler over cuts that were made before."""
    try:
        from lhotse import MonoCut
        from lhotse.dataset import DynamicBucketingSampler
    except ImportError:
        return None
    cuts = [
        MonoCut(id=str(index), start=0.0, duration=duration, channel=0, supervisions=[])
        for index, duration in enumerate(sizes[:, 0].tolist())
    ]
    np.random.default_rng(0).shuffle(cuts)
    begin = time.process_time()
    sampler = DynamicBucketingSampler(
        cuts, max_duration=CAP_S, num_buckets=buckets, shuffle=True, world_size=1, rank=0
    )
    durations = [[cut.duration for cut in batch] for batch in sampler]
    plan_s = time.process_time() - begin
    costs = np.array([len(batch) * max(batch) for batch in durations])
    real = float(sum(map(sum, durations)))
    over = float((costs > CAP_S * (1 + 1e-9)).mean())
    return Row(
        f"Lhotse dynamic, K = {buckets}", len(sizes), plan_s, len(costs), 1 - real / costs.sum(),
        over, float(costs.max()),
    )  # fmt: skip


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--utterances", type=int, default=1_000_000)
    parser.add_argument("--lhotse", type=int, default=200_000, help="utterances Lhotse is given")
    options = parser.parse_args()
    sizes = librispeech_like(options.utterances)[:, None]
    few = sizes[: options.lhotse]
    per_cap = int(CAP_S / sizes.mean())
    print(
        f"durations: mean {sizes.mean():.2f} s, percentiles 1, 25, 50, 75, 99: "
        f"{np.percentile(sizes, [1, 25, 50, 75, 99]).round(1).tolist()}, longest {sizes.max():g} s"
    )
    dyn = {"mode": "1D-bucketing-dyn", "cap_s": CAP_S, "bins": 100}
    exact = {"mode": "exact", "cap_s": CAP_S}
    rows = [
        lhotse(few, buckets=30),
        lhotse(few, buckets=100),
        ours("1D-bucketing-dyn, K = 100", few, **dyn),
        ours(f"fixed, {per_cap} items", sizes, mode="fixed", **{"micro_batch": per_cap}),
        ours("duration", sizes, mode="duration", cap_s=CAP_S),
        ours("1D-bucketing-dyn, K = 100", sizes, **dyn),
        ours("1D-bucketing-dyn, 8 ranks", sizes, world=8, **dyn),
        ours("exact, G = 256", sizes, items=256, **exact),
        ours("exact, G = 1024", sizes, items=1024, **exact),
        ours("exact, G = 1024, 8 ranks", sizes, world=8, items=1024, **exact),
        ours("exact, G = 32, pool of 32", sizes, items=32, pool_updates=32, **exact),
        ours("exact, G = 64, pool of 32", sizes, items=64, pool_updates=32, **exact),
    ]
    print(
        f"{'plan':<27}{'items':>10}{'CPU s':>9}{'ms/update':>11}{'batches':>9}{'padding':>9}"
        f"{'over cap':>10}{'largest':>9}{'idle':>8}"
    )
    for row in filter(None, rows):
        each = f"{row.each_ms:.2f}" if row.each_ms else ""
        print(
            f"{row.name:<27}{row.count:>10,}{row.plan_s:>9.2f}{each:>11}{row.batches:>9,}"
            f"{row.padding:>9.2%}{row.over_cap:>10.2%}{row.largest:>9.1f}{row.idle:>8.2%}"
        )
    if rows[0] is None:
        print("Lhotse is not installed: uv run --with lhotse python tests/bench/batch_plans.py")


if __name__ == "__main__":
    main()
