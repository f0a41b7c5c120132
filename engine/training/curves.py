"""Training curves, from device scalars to blocks of points.

The training loop only keeps references to () tensors, which are read together when a block is full
or old enough. Owns the count of skipped updates and the decision that a run has diverged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import perf_counter

import numpy as np
import torch
from torch import Tensor

from engine.config.counters import Counters, UpdateSize
from engine.config.sections import LoggingConfig
from engine.events import Event, Noticed, PointsRecorded
from engine.metrics.registry import CURVE_UNITS
from engine.training.schedules import is_due
from engine.training.updates import UpdateResult
from engine.training.watching import CurveWatch

MAX_BLOCK = 512
MAX_SKIPPED_IN_A_ROW = 20
_FIXED = 7
# Curves of the clock on the wall; no others may reach what a resumed run has to repeat.
_TIMED = ("audio_s_per_s", "updates_per_s")


class TrainingDiverged(ValueError):
    """Too many updates in a row had a non-finite loss or gradient."""


class Telemetry:
    """Collects the measurements of updates and emits them in blocks of points.

    A point covers the updates since the previous point: loss is the mean over their items, grad_norm
    the mean over their updates, both over the finite updates only; lr is that of the last one.
    `metrics` are the recipe's own by name, with their units: the sum over the finite updates, divided
    by its weight, NaN where that is 0.
    """

    def __init__(
        self,
        config: LoggingConfig,
        size: UpdateSize,
        *,
        loss_unit: str,
        emit: Callable[[Event], None],
        metrics: Mapping[str, str] | None = None,
        watch: CurveWatch | None = None,
    ) -> None:
        self._watch = watch
        self._config = config
        self._size = size
        self._emit = emit
        self._units = {**CURVE_UNITS, "loss": loss_unit}
        metrics = dict(metrics or {})
        taken = sorted(self._units.keys() & metrics.keys())
        if taken:
            raise ValueError(
                f"the recipe's training metric {taken[0]!r} has the name of a built-in curve; rename it in "
                "the package of the recipe"
            )
        self._metrics = list(metrics)
        self._units |= metrics
        self._update = 0
        self._fresh: list[Tensor] = []
        self._fresh_metrics: list[Tensor] = []
        self._lrs: list[float] = []
        self._sizes: list[UpdateSize] = []
        # Rows not yet part of a point: (R, 7 + 2 M) loss sum, weight, gradient norm, lr, what the
        # update added to the counters (micro-batches, items, audio seconds), then sum and weight of
        # each metric.
        self._pending = np.zeros((0, _FIXED + 2 * len(self._metrics)))
        # The counters before the first of those rows.
        self._counters = Counters()
        self._skipped = 0
        self._in_a_row = 0
        self.restart_clock()

    def start_at(self, counters: Counters) -> None:
        """Continue from `counters`, the counters after the restored rows."""
        self._update = counters.updates
        self._counters = _advanced(counters, self._pending, mean=self._size, sign=-1)

    def restart_clock(self) -> None:
        """Exclude the time since the last flush (evaluation, saving) from the throughput."""
        self._since = perf_counter()
        self._deadline = self._since + self._config.flush_s

    def add(self, result: UpdateResult, lr: float, size: UpdateSize) -> None:
        """Store the measurements of the next update, of `size`; they stay on the device."""
        self._fresh += (result.loss_sum, result.weight, result.grad_norm)
        if result.metrics is not None:
            self._fresh_metrics.append(result.metrics)
        self._lrs.append(lr)
        self._sizes.append(size)

    def is_full(self) -> bool:
        """Return whether it is time to flush."""
        return len(self._lrs) >= MAX_BLOCK or (bool(self._lrs) and perf_counter() >= self._deadline)

    def flush(self) -> None:
        """Read the device, emit the complete points, and check the run's health.

        Raises:
            TrainingDiverged: after 20 non-finite updates in a row.
            TrainingCollapsed: when the recipe finds a collapse in its curves.
        """
        count = len(self._lrs)
        if not count:
            return
        block = _read(self._fresh).reshape(count, 3)
        metrics = _read(self._fresh_metrics) if self._metrics else np.zeros((count, 0))
        elapsed = max(perf_counter() - self._since, 1e-9)
        sizes = [(size.micro_batches, size.items, size.audio_seconds) for size in self._sizes]
        rows = np.column_stack([block, self._lrs, np.asarray(sizes, dtype=np.float64), metrics])
        self._fresh, self._fresh_metrics, self._lrs, self._sizes = [], [], [], []
        first = self._update - len(self._pending) + 1
        self._update += count
        self._pending = np.concatenate([self._pending, rows])
        self._emit_points(first, count / elapsed, audio_s_per_s=float(rows[:, 6].sum()) / elapsed)
        self.restart_clock()
        self._check_health(rows)
        if self._watch is not None:
            self._watch.check(self._counters)

    def _emit_points(self, first: int, updates_per_s: float, *, audio_s_per_s: float) -> None:
        rows = self._pending
        numbers = np.arange(first, first + len(rows))
        every = self._config.every
        ends = [i for i, n in enumerate(numbers) if is_due(every, int(n), size=self._size)]
        if not ends:
            return
        end = ends[-1] + 1
        starts = [0, *(i + 1 for i in ends[:-1])]
        finite = _finite_rows(rows[:end])
        sums = np.add.reduceat(np.where(finite[:, None], rows[:end, :3], 0.0), starts)
        counts = np.add.reduceat(finite.astype(np.int64), starts)
        skipped = self._skipped + np.cumsum(np.diff([*starts, end]) - counts)
        self._skipped = int(skipped[-1])
        self._pending = rows[end:]
        with np.errstate(invalid="ignore", divide="ignore"):
            loss, grad_norm = sums[:, 0] / sums[:, 1], sums[:, 2] / counts
        series = {
            "loss": loss,
            "grad_norm": grad_norm,
            "lr": rows[ends, 3],
            "skipped": skipped.astype(np.float64),
            "audio_s_per_s": np.full(len(ends), audio_s_per_s),
            "updates_per_s": np.full(len(ends), updates_per_s),
            **self._means(rows[:end], finite, starts=starts),
        }
        self._counters = _advanced(self._counters, rows[:end], mean=self._size)
        self._emit(
            PointsRecorded(numbers[ends], series, units=dict(self._units), counters=self._counters)
        )
        if self._watch is not None:
            self._watch.add(
                numbers[ends], {name: series[name] for name in series if name not in _TIMED}
            )

    def _means(
        self, rows: np.ndarray, finite: np.ndarray, *, starts: list[int]
    ) -> dict[str, np.ndarray]:
        """Return the recipe's own metrics at each point."""
        if not self._metrics:
            return {}
        pairs_RM2 = rows[:, _FIXED:].reshape(len(rows), len(self._metrics), 2)
        kept_RM = finite[:, None] & np.isfinite(pairs_RM2).all(axis=2)
        sums_PM2 = np.add.reduceat(np.where(kept_RM[:, :, None], pairs_RM2, 0.0), starts)
        with np.errstate(invalid="ignore", divide="ignore"):
            means_PM = np.where(sums_PM2[..., 1] != 0, sums_PM2[..., 0] / sums_PM2[..., 1], np.nan)
        return {name: means_PM[:, index] for index, name in enumerate(self._metrics)}

    def _check_health(self, rows: np.ndarray) -> None:
        finite = _finite_rows(rows)
        if finite.all():
            self._in_a_row = 0
            return
        first = self._update - len(rows) + 1
        numbers = [first + int(i) for i in np.flatnonzero(~finite)]
        for index, good in enumerate(finite):
            self._in_a_row = 0 if good else self._in_a_row + 1
            if self._in_a_row == MAX_SKIPPED_IN_A_ROW:
                last = first + index
                raise TrainingDiverged(
                    f"updates {last - MAX_SKIPPED_IN_A_ROW + 1} to {last}: loss or gradient "
                    f"non-finite {MAX_SKIPPED_IN_A_ROW} times in a row; weights were not changed by these "
                    "updates. Lower optimizer.lr, set schedule.warmup, or use precision.dtype = bf16 or fp32"
                )
        counters = _advanced(self._counters, self._pending, mean=self._size)
        self._emit(
            Noticed(
                "warning",
                "updates-skipped",
                message=f"{len(numbers)} update(s) skipped, loss or gradient non-finite: {_shorten(numbers)}",
                counters=counters,
                details={"count": len(numbers), "first": numbers[0], "last": numbers[-1]},
            )
        )

    def state_dict(self) -> dict[str, Tensor]:
        """Return the state that the next points depend on; flush first."""
        assert not self._lrs, "flush before saving"
        counts = torch.tensor([self._skipped, self._in_a_row], dtype=torch.int64)
        return {"pending": torch.from_numpy(self._pending.copy()), "counts": counts}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Load the state from `state`.

        Raises:
            ValueError: when its points are of other metrics.
        """
        pending = state["pending"].numpy()
        if pending.shape[1] != self._pending.shape[1]:
            saved, own = (
                (width - _FIXED) // 2 for width in (pending.shape[1], self._pending.shape[1])
            )
            raise ValueError(
                f"its curves have {saved} training metric(s), but the recipe has {own}"
            )
        self._pending = pending.copy()
        self._skipped, self._in_a_row = (int(n) for n in state["counts"])


class SilentTelemetry(Telemetry):
    """Telemetry that emits nothing: only the first process of a run reports."""

    def add(self, result: UpdateResult, lr: float, size: UpdateSize) -> None:
        """Discard the measurements."""


def _advanced(counters: Counters, rows: np.ndarray, *, mean: UpdateSize, sign: int = 1) -> Counters:
    """Return the counters after (or, with sign -1, before) the updates of `rows`."""
    updates = counters.updates + sign * len(rows)
    micro_batches, items, audio_seconds = (rows[:, 4:_FIXED].sum(axis=0) * sign).tolist()
    return Counters(
        updates,
        counters.micro_batches + round(micro_batches),
        items=counters.items + round(items),
        audio_seconds=round(counters.audio_seconds + audio_seconds, 9),
        epochs=mean.epochs_in(updates),
    )


def _read(tensors: list[Tensor]) -> np.ndarray:
    """Stack tensors of one shape and wait for their values, float64."""
    values: np.ndarray = torch.stack(tensors).to("cpu", torch.float64).numpy()
    return values


def _finite_rows(rows: np.ndarray) -> np.ndarray:
    """Return (R,) bool: where loss sum, weight and gradient norm are all finite."""
    flags: np.ndarray = np.isfinite(rows[:, :3]).all(axis=1)
    return flags


def _shorten(numbers: list[int]) -> str:
    text = ", ".join(map(str, numbers[:10]))
    return text if len(numbers) <= 10 else f"{text}, ... {numbers[-1]}"
