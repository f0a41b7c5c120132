"""A store that looks like a night of work, written through the real writer, with fixed times."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from jobs.home import Home
from jobs.machine.processes import process_token
from jobs.store.records import RunState, SystemRecord
from jobs.store.writer import StoreWriter

NOW = 1_800_000_000.0
GIB = 1024**3


class Lab:
    """Fills the store of a home, run by run."""

    def __init__(self, home: Home) -> None:
        self.home = home.create()
        self.writer = StoreWriter(home.store)

    def close(self) -> None:
        self.writer.close()

    def run(
        self,
        name: str,
        state: RunState = "queued",
        *,
        updates: int = 0,
        total: int = 20_000,
        **fields,
    ) -> int:
        """Insert a run; one that has updates gets memory samples, a log and, unless `plain`, curves."""
        level = fields.pop("level", 12.0)
        metric = fields.pop("metric", "si_sdr")
        config = fields.pop("config", {})
        plain = fields.pop("plain", False)
        preset, seed = fields.pop("preset", "denoise/small"), fields.pop("seed", 1)
        row = {
            "name": name, "preset": preset, "config": json.dumps(config), "fingerprint": "0" * 64, "seed": seed,
            "created_at": NOW - 9000, "total_updates": total, "metric": metric,
        }  # fmt: skip
        run_id = self.writer.insert_run(row)
        started = None if state == "queued" and not updates else NOW - 8000 + 100 * run_id
        ended = NOW - 3000 + 100 * run_id if state in ("finished", "stopped", "failed") else None
        if updates:
            fields = {
                "best": level, "best_ema": level + 0.4, "input_score": 6.02,
                "speed": 12.5 if state == "running" else None, "items": updates * 16,
                "audio_seconds": updates * 16.0, "epochs": updates / 256, "train_seconds": updates / 12.5,
            } | fields  # fmt: skip
        if updates and metric == "wer":
            fields |= {"best": level / 100, "best_ema": level / 110, "input_score": None}
        self.writer.move(
            run_id, state, ["queued"], updates=updates, started_at=started, ended_at=ended, **fields
        )
        if updates:
            if not plain:
                self.curves(run_id, updates, level, metric=metric)
            self.memory(run_id, started or NOW)
            self.log(run_id, updates)
        return run_id

    def curves(
        self, run_id: int, updates: int, level: float, *, every: int = 10, metric: str = "si_sdr"
    ) -> None:
        random = np.random.default_rng(run_id)
        steps = np.arange(every, updates + 1, every)
        share = steps / 3000
        loss = 1.9 * np.exp(-share) + 0.35 + random.gamma(2, 0.05, len(steps)) - 0.01 * level
        self._points(
            run_id, steps, ("loss", loss, ""), ("lr", 3e-4 * np.exp(-share / 4), ""),
            ("grad_norm", 0.4 + random.gamma(3, 0.1, len(steps)), ""),
            ("audio_s_per_s", 200 + random.normal(0, 6, len(steps)), "s/s"),
            ("updates_per_s", 12.5 + random.normal(0, 0.4, len(steps)), "1/s"),
        )  # fmt: skip
        steps = np.arange(500, updates + 1, 500)
        rise = level - 9 * np.exp(-steps / 2500)
        if metric == "wer":
            fall = level / 100 + 0.9 * np.exp(-steps / 1500)
            self._points(
                run_id, steps, ("wer", fall, ""), ("wer_ema", fall / 1.1, ""),
                ("val_loss", 1.9 * np.exp(-steps / 3000) + 0.42, ""),
            )  # fmt: skip
            return
        self._points(
            run_id, steps, ("si_sdr", rise + random.normal(0, 0.25, len(steps)), "dB"),
            ("si_sdr_ema", rise + 0.4, "dB"), ("val_loss", 1.9 * np.exp(-steps / 3000) + 0.42, ""),
        )  # fmt: skip

    def points(self, run_id: int, steps, **series) -> None:
        """Write curves: name -> (values, unit)."""
        self._points(
            run_id, steps, *((name, values, unit) for name, (values, unit) in series.items())
        )

    def _points(self, run_id: int, steps, *series) -> None:
        self.writer.add_points(
            run_id,
            steps=steps.tolist(),
            series={name: values.tolist() for name, values, _ in series},
            units={name: unit for name, _, unit in series},
        )

    def memory(self, run_id: int, start: float, *, samples: int = 120) -> None:
        with self.writer.transaction():
            for index in range(samples):
                ram = int((0.6 + 1.1 * min(1, index / 20)) * GIB)
                self.sample(start + index * 5, run=run_id, process=ram)

    def sample(
        self, time: float, *, run: int | None = None, process: int | None = None, gpu: bool = True
    ) -> None:
        on_gpu = (94.0, int(31.4 * GIB), 139 * GIB, "H200") if gpu else (None,) * 4
        self.writer.add_system(
            SystemRecord(
                time,
                run,
                cpu_percent=42.0,
                ram_bytes=12 * GIB,
                ram_total_bytes=64 * GIB,
                process_ram_bytes=process,
                gpu_percent=on_gpu[0],
                vram_bytes=on_gpu[1],
                vram_total_bytes=on_gpu[2],
                gpu_name=on_gpu[3],
            )
        )

    def log(self, run_id: int, updates: int) -> None:
        folder = self.home.run_folder(run_id)
        folder.mkdir(parents=True, exist_ok=True)
        lines = [
            f"03:{index % 60:02d}:00  update {index * 500}  loss {0.9 / (index + 1):.4f}  "
            f"SI-SDR {6 + index * 0.2:.2f} dB  EMA {6.4 + index * 0.2:.2f} dB  200 s/s"
            for index in range(1, updates // 500 + 1)
        ]
        (folder / "log.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def worker(self, *, pid: int, run: int | None = None, device: str = "cuda:0") -> int:
        worker = self.writer.add_worker(device, pid=pid, token=process_token(pid))
        self.writer.note_current(worker, run_id=run)
        return worker

    def night(self) -> list[int]:
        """Fill in a night: ended runs of all kinds, one running, a queue."""
        ids = [
            self.run("denoise-small-1", "finished", updates=20_000, level=13.21),
            self.run("denoise-batch2x-1", "finished", updates=20_000, level=13.87),
            self.run(
                "denoise-lr-1e-1", "failed", updates=1500, level=4.4,
                message="training diverged: 20 updates in a row had no finite gradient",
            ),
            self.run("bandwidth-audio-unet-1", "stopped", updates=6200, level=11.05),
            self.run("denoise-weight-norm-1", "running", updates=9130, level=12.93),
            self.run("denoise-group-norm-1"),
            self.run("stems-vocals-small-1"),
            self.run("stems-conv-tasnet-1"),
        ]  # fmt: skip
        self.sample(NOW - 1)
        return ids


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home of its own."""
    return Home.locate(tmp_path / "home")


@pytest.fixture
def lab(home: Home):
    """An empty store to fill."""
    made = Lab(home)
    yield made
    made.close()


@pytest.fixture
def clock() -> Callable[[], float]:
    """The time at which the night of the lab is looked at."""
    return lambda: NOW
