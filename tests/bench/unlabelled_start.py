"""A million utterances without texts: CPU time from a manifest to the first batch, and what crops lose.

    python -m tests.bench.unlabelled_start [--utterances 1000000]

Lengths are drawn as in `batch_plans.py`, between 2 and 15.6 s. Nothing but the manifest is read: its rows
have durations, so that no audio file has to be there.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from engine.batching.open_plan import open_plan
from engine.batching.report import report_on
from engine.config.loading import load_config
from engine.config.schema import RunConfig
from engine.config.unlabelled import UnlabelledData
from engine.data.unlabelled.dataset import UnlabelledDataset
from tests.bench.batch_plans import librispeech_like

T = TypeVar("T")
CAP_S = 90.0
BATCHES: tuple[dict[str, Any], ...] = (
    {"items": 16, "cap_s": CAP_S},
    {"items": 16, "cap_s": CAP_S, "pool_updates": 32},
    {"items": 256, "cap_s": CAP_S},
    {"items": 256, "cap_s": CAP_S, "pool_updates": 16},
    {"seconds": 2_800.0, "cap_s": CAP_S, "pool_updates": 16},
    {"mode": "duration", "cap_s": CAP_S},
    {"mode": "1D-bucketing-dyn", "cap_s": CAP_S},
)


def settings(manifest: Path, fit: str) -> UnlabelledData:
    """Return the settings of the data."""
    values = {"train": str(manifest), "valid": str(manifest), "fit": fit}
    return UnlabelledData.model_validate_json(json.dumps(values))


def config_of(data: UnlabelledData, batch: dict[str, Any]) -> RunConfig:
    """Return a config; which recipe trains is of no matter to a plan."""
    config = load_config(
        {
            "data": {"kind": "bandwidth", "train": "t", "valid": "v"},
            "batch": {"micro_batch": 4_096, **batch},
        }
    )
    return config.model_copy(update={"data": data})


def timed(name: str, work: Callable[[], T]) -> T:
    """Do some work and print the CPU time it took."""
    begin = time.process_time()
    result = work()
    print(f"{name:<60} {time.process_time() - begin:6.2f} s")
    return result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--utterances", type=int, default=1_000_000)
    options = parser.parse_args()
    durations = np.clip(librispeech_like(options.utterances), 2.0, 15.6).tolist()
    with tempfile.TemporaryDirectory() as folder:
        manifest = Path(folder, "train.jsonl")
        with manifest.open("w") as file:
            for n, duration_s in enumerate(durations):
                name = f"{n % 2_500:04}/{n % 97:03}/{n:07}.flac"
                file.write(json.dumps({"path": name, "duration": duration_s, "text": "a b"}) + "\n")
        print(f"{options.utterances:,} rows, {manifest.stat().st_size / 1e6:.0f} MB; CPU time")
        data = settings(manifest, "crop")
        dataset = timed("manifest read, items cut", lambda: UnlabelledDataset(data, "train"))
        timed("hash of the items", lambda: dataset.manifest)
    sizes = dataset.durations_s()[:, None]
    for batch in BATCHES:
        for fit in ("crop", "pad"):
            config = config_of(settings(manifest, fit), batch)

            def first(config: RunConfig = config) -> Any:
                plan = open_plan(config, sizes, manifest="")
                plan.micro_batches(0)
                return plan, plan.mean_size

            plan, _ = timed(f"{fit}, {batch}", first)
            report = report_on(plan, sizes)
            lost = f"cropped {report.cropped_share:.2%}, padding {report.padding_share:.2%}"
            print(f"    {lost}, {report.mean_items:.0f} items an update")


if __name__ == "__main__":
    main()
