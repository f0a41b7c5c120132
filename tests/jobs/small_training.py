"""Real training in seconds: a tiny config on synthetic audio, and the program of a worker."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from engine.config.loading import load_config
from engine.config.schema import RunConfig
from engine.data.synthetic import write_dataset
from jobs.home import Home
from jobs.store.reader import StoreReader
from jobs.store.records import RunRecord

# Trains the queue of a home on the CPU until it is empty; exits 1 when runs failed or wait in vain.
WORKER = """
import sys
from pathlib import Path
from jobs.home import Home
from jobs.worker.serve import serve
sys.exit(min(serve(Home(Path(sys.argv[1])), device="cpu", drain=True), 1))
"""


def small_config(folder: Path, updates: int) -> RunConfig:
    """Write a dataset below `folder`; return a run of seconds on it."""
    write_dataset(folder, tracks=2, duration_s=4.0)
    data = {
        "kind": "bandwidth", "train": str(folder / "train"), "valid": str(folder / "valid"),
        "rate_hz": 8000, "segment_s": 0.5, "input_rates_hz": [2000, 4000],
    }  # fmt: skip
    return load_config(
        {
            "data": data,
            "model": {"kind": "audio_unet", "width": 4},
            "batch": {"items": 2, "micro_batch": 2},
            "loss": {"windows": [256, 64]},
            "schedule": {"length": f"{updates} updates"},
            "precision": {"threads": 1, "device": "cpu"},
            "validation": {"every": "20 updates", "max_items": 2, "training_items": 2},
            "checkpoint": {"every": "10 updates"},
            "logging": {"flush_s": 0.05},
        }
    )


@contextlib.contextmanager
def worker(home: Home) -> Iterator[subprocess.Popen[bytes]]:
    """Run a draining worker in a process of its own."""
    process = subprocess.Popen([sys.executable, "-P", "-c", WORKER, str(home.root)])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def run_of(home: Home, run: int | str) -> RunRecord:
    """Return a run's row."""
    with StoreReader(home.store) as reader:
        return reader.run(run)


def curves_of(home: Home, run_id: int) -> dict[str, tuple[list[int], list[float | None]]]:
    """Return every curve that does not depend on the clock, point by point."""
    with StoreReader(home.store) as reader:
        names = [name for name in reader.series_names(run_id) if not name.endswith("per_s")]
        found = reader.curves(run_id, names, max_points=10**6)
    return {name: (curve.updates, curve.last) for name, curve in found.items()}
