"""Training curves, from device scalars to blocks of points.

The training loop only keeps references to () tensors, which are read together when a block is full
or old enough. Owns the count of skipped updates and the decision that a run has diverged. What was skipped
is in no average, neither as a sum nor as a weight.

Under fp16, gradients are computed at a loss scale that is lowered until they are finite, first of all at
the start. Updates that this costs are not a fault and counted apart: those with a finite loss, at a scale
above 1 and above any that has held for 100 updates in a row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Literal

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
# Finite updates in a row after which a loss scale counts as found.
_HELD_FOR = 100
# Curves of runs in fp16 only.
_OF_SCALE = ("loss_scale", "scale_backoffs")
# Curves of the clock on the wall: nothing that a resumed run has to repeat may depend on them.
_TIMED = ("audio_s_per_s", "updates_per_s")


class TrainingDiverged(ValueError):
    """Too many updates in a row had a non-finite loss or gradient."""


class Telemetry:
    """Collects the measurements of updates and emits them in blocks of points.

    A point covers the updates since the previous point: loss is the mean over their items, grad_norm
    the mean over their updates, both over the finite updates only; lr is that of the last one.
    `metrics` are the recipe's own by name, with their units: the sum over the finite updates, divided
    by its weight, NaN where that is 0. `has_scale`: the updates have a loss scale.
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
        has_scale: bool = False,
    ) -> None:
        self._watch = watch
        self._has_scale = has_scale
        self._config = config
        self._size = size
        self._emit = emit
        own = {} if has_scale else dict.fromkeys(_OF_SCALE)
        self._units = {**{n: u for n, u in CURVE_UNITS.items() if n not in own}, "loss": loss_unit}
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
        self._fresh_scales: list[Tensor] = []
        self._lrs: list[float] = []
        self._sizes: list[UpdateSize] = []
        # Rows not yet part of a point: (R, 7 + 2 M) loss sum, weight, gradient norm, lr, what the
        # update added to the counters (micro-batches, items, audio seconds), then sum and weight of
        # each metric, and with a loss scale that, and whether the update was lost to lowering it.
        self._pending = np.zeros((0, _FIXED + 2 * len(self._metrics) + 2 * has_scale))
        # The counters before the first of those rows.
        self._counters = Counters()
        self._skipped = 0
        self._in_a_row = 0
        self._backoffs = 0
        # The highest scale that has held; the last one, and how many updates in a row it has been finite.
        self._proven = 1.0
        self._last_scale = 0.0
        self._held = 0
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
        if result.scale is not None:
            self._fresh_scales.append(result.scale)
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
        if self._has_scale:
            rows = self._with_scales(rows, _read(self._fresh_scales))
        self._fresh, self._fresh_metrics, self._fresh_scales = [], [], []
        self._lrs, self._sizes = [], []
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
        lost = np.add.reduceat(self._lost_to_scale(rows[:end]).astype(np.int64), starts)
        skipped = self._skipped + np.cumsum(np.diff([*starts, end]) - counts - lost)
        backoffs = self._backoffs + np.cumsum(lost)
        self._skipped, self._backoffs = int(skipped[-1]), int(backoffs[-1])
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
            **self._of_scale(rows[ends], backoffs),
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
        num = len(self._metrics)
        pairs_RM2 = rows[:, _FIXED : _FIXED + 2 * num].reshape(len(rows), num, 2)
        kept_RM = finite[:, None] & np.isfinite(pairs_RM2).all(axis=2)
        sums_PM2 = np.add.reduceat(np.where(kept_RM[:, :, None], pairs_RM2, 0.0), starts)
        with np.errstate(invalid="ignore", divide="ignore"):
            means_PM = np.where(sums_PM2[..., 1] != 0, sums_PM2[..., 0] / sums_PM2[..., 1], np.nan)
        return {name: means_PM[:, index] for index, name in enumerate(self._metrics)}

    def _with_scales(self, rows: np.ndarray, scales: np.ndarray) -> np.ndarray:
        """Append the loss scales, and which updates were lost to lowering them."""
        lost = np.zeros(len(rows))
        finite, finite_loss = _finite_rows(rows), np.isfinite(rows[:, 0])
        for index, scale in enumerate(scales.tolist()):
            self._held = (
                self._held + 1
                if finite[index] and scale == self._last_scale
                else int(finite[index])
            )
            self._last_scale = scale
            if self._held >= _HELD_FOR:
                self._proven = max(self._proven, scale)
            lost[index] = finite_loss[index] and not finite[index] and scale > self._proven
        return np.column_stack([rows, scales, lost])

    def _lost_to_scale(self, rows: np.ndarray) -> np.ndarray:
        """Return (R,) bool: which updates the lowering of the loss scale has cost."""
        return rows[:, -1] > 0 if self._has_scale else np.zeros(len(rows), dtype=bool)

    def _of_scale(self, last: np.ndarray, backoffs: np.ndarray) -> dict[str, np.ndarray]:
        """Return the curves of the loss scale; `last` are the rows at the end of each point."""
        if not self._has_scale:
            return {}
        return {"loss_scale": last[:, -2], "scale_backoffs": backoffs.astype(np.float64)}

    def _check_health(self, rows: np.ndarray) -> None:
        finite = _finite_rows(rows)
        if finite.all():
            self._in_a_row = 0
            return
        first = self._update - len(rows) + 1
        for index, good in enumerate(finite):
            self._in_a_row = 0 if good else self._in_a_row + 1
            if self._in_a_row == MAX_SKIPPED_IN_A_ROW:
                last = first + index
                raise TrainingDiverged(
                    f"updates {last - MAX_SKIPPED_IN_A_ROW + 1} to {last}: loss or gradient "
                    f"non-finite {MAX_SKIPPED_IN_A_ROW} times in a row; weights were not changed by these "
                    "updates. Lower optimizer.lr, set schedule.warmup, or use precision.dtype = bf16 or fp32"
                )
        self._report_skipped(first + np.flatnonzero(~finite), self._lost_to_scale(rows)[~finite])

    def _report_skipped(self, numbers: np.ndarray, lost: np.ndarray) -> None:
        """Report updates (K,) that changed nothing; those `lost` (K,) to the loss scale are no fault."""
        counters = _advanced(self._counters, self._pending, mean=self._size)
        reasons: tuple[tuple[Literal["info", "warning"], str, str, np.ndarray], ...] = (
            (
                "info",
                "scale-backoff",
                "while the fp16 loss scale was lowered to fit",
                numbers[lost],
            ),
            ("warning", "updates-skipped", "loss or gradient non-finite", numbers[~lost]),
        )
        for level, kind, why, those in reasons:
            found = those.tolist()
            if found:
                text = f"{len(found)} update(s) skipped, {why}: {_shorten(found)}"
                details = {"count": len(found), "first": found[0], "last": found[-1]}
                self._emit(Noticed(level, kind, message=text, counters=counters, details=details))

    def state_dict(self) -> dict[str, Tensor]:
        """Return the state that the next points depend on; flush first."""
        assert not self._lrs, "flush before saving"
        counts = torch.tensor([self._skipped, self._in_a_row], dtype=torch.int64)
        state = {"pending": torch.from_numpy(self._pending.copy()), "counts": counts}
        if self._has_scale:
            scale = [self._proven, self._last_scale, self._held, self._backoffs]
            state["scale"] = torch.tensor(scale, dtype=torch.float64)
        return state

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Load the state from `state`.

        Raises:
            ValueError: when its points are of other metrics.
        """
        pending = state["pending"].numpy()
        if self._has_scale and "scale" not in state:
            # Checkpoints of earlier versions don't know the scale, and count no back-off apart.
            pending = np.column_stack([pending, np.full((len(pending), 2), np.nan)])
        if pending.shape[1] != self._pending.shape[1]:
            saved, own = (
                (width - _FIXED) // 2 - self._has_scale
                for width in (pending.shape[1], self._pending.shape[1])
            )
            raise ValueError(
                f"its curves have {saved} training metric(s), but the recipe has {own}"
            )
        self._pending = pending.copy()
        self._skipped, self._in_a_row = (int(n) for n in state["counts"])
        if "scale" in state:
            self._proven, self._last_scale, held, backoffs = state["scale"].tolist()
            self._held, self._backoffs = int(held), int(backoffs)


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
