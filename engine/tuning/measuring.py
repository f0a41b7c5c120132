"""Measures memory and time of updates, made as the trainer makes them, on synthetic batches.

On a GPU, memory is the peak of torch's own allocator. On a CPU it is the peak of resident memory, the
convolution library's included, which tensors alone understate by a quarter; every larger block has
pages of its own meanwhile, so that small peaks don't hide in what the heap keeps of old ones. Where the
system has no such peak, it is every allocation that the profiler reports, on top of the process.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.profiler import profile, record_function

from engine.config.counters import UpdateSize
from engine.config.schema import RunConfig
from engine.config.sections import OptimizerConfig
from engine.data.batch import Batch
from engine.precision import backend_settings, place
from engine.recipes.base import KeepsState
from engine.recipes.registry import open_recipe
from engine.torch_random import seed_everything
from engine.training.ema import Ema
from engine.training.optimizer import FusedAdamW
from engine.training.out_of_memory import (
    DoesNotFit,
    MemoryLimits,
    Shortage,
    UpdateTorn,
    release_memory,
)
from engine.training.updates import Updater
from engine.tuning.machine import (
    can_reset_peak,
    pages_of_their_own,
    peak_resident_bytes,
    reset_peak,
)
from engine.tuning.trials import Case

_MARK = "sepdash optimizer phase"
_WARM_UP = 2
_ROUNDS = 5
# A middle length this near an end of the range would not tell how memory bends in between.
_NEAR = 0.1


class _WatchedAdamW(FusedAdamW):
    """Tells when an update asks for its gradients: forward and backward are over by then."""

    def __init__(self, model: nn.Module, config: OptimizerConfig) -> None:
        super().__init__(model, config)
        self.watcher: Watcher | None = None

    def gradients(self) -> list[Tensor]:
        if self.watcher is not None:
            self.watcher.optimizer_begins()
            self.watcher = None
        return super().gradients()


class Watcher:
    """Is told once an update when its optimiser phase begins."""

    def optimizer_begins(self) -> None:
        """Forward and backward of all micro-batches are over."""


class _OneTry(MemoryLimits):
    """Lets an update that ran out of memory fail: pieces that fit are not what is measured here."""

    def learn(self, shortage: Shortage) -> None:
        raise MemoryError(shortage.error)


class Subject:
    """One config with its network, optimiser and average, ready to make updates."""

    def __init__(self, config: RunConfig, device: torch.device) -> None:
        self.config = config
        self.device = device
        before = _allocated(device)
        self._recipe = open_recipe(config)
        seed_everything(config.seed)
        self.model = place(self._recipe.build_model(), config.precision, device)
        self.model.train()
        if isinstance(self._recipe, KeepsState):
            self._recipe.start_state(self.model, device)
        size = UpdateSize(1, 1, 1.0, epochs=1.0)
        ema = Ema(self.model, config.ema, size) if config.ema.enabled else None
        self._optimizer = _WatchedAdamW(self.model, config.optimizer)
        self._updater = Updater(
            self._recipe, self.model, self._optimizer, config=config, device=device, ema=ema
        )
        self._updater.limits = _OneTry()
        state = [*self.model.state_dict().values(), *self._optimizer.state_dict().values()]
        averages = list(ema.state_dict().values()) if ema is not None else []
        on_cpu = device.type == "cpu"
        self.static_bytes = (
            _num_bytes([*state, *averages]) if on_cpu else _allocated(device) - before
        )
        self._made = 0

    def batches(self, case: Case) -> list[Batch]:
        """Return the synthetic batches of one update, in pinned memory for a GPU."""
        batch = self._recipe.worst_batch(case.count, case.shape)
        if self.device.type == "cuda":
            batch = Batch({name: tensor.pin_memory() for name, tensor in batch.tensors.items()})
        return [batch] * case.micro_batches

    def update(self, batches: Sequence[Batch], watcher: Watcher | None = None) -> None:
        """Make one update; the weights stay where they are.

        Raises:
            MemoryError: when memory ran out.
        """
        self._optimizer.watcher = watcher
        self._made += 1
        try:
            shortages = self._updater.run(self._made, batches, lr=0.0).shortages
            short = shortages[0].error if shortages else ""
        except (DoesNotFit, UpdateTorn) as error:
            short = str(error)
        if short:
            raise MemoryError(short)

    def settings(self) -> AbstractContextManager[None]:
        """Return the switches of the backends that this config asks for, as a context."""
        return backend_settings(self.config.precision)

    def item_sizes(self) -> dict[str, Any]:
        """Return what `Facts` tells of the sizes of the training items."""
        return describe_sizes(self._recipe.sizes("train"))

    def clear(self) -> None:
        """Forget the gradients, and hand unused memory back."""
        self._optimizer.clear_gradients()
        release_memory()


def describe_sizes(sizes_ND: np.ndarray) -> dict[str, Any]:
    """Return `lengths_s`, `tokens`, `mean_s`, `mean_tokens`, `num_items` of (N, 1) or (N, 2) sizes."""
    lengths_N = sizes_ND[:, 0]
    low, middle, high = (float(x) for x in (lengths_N.min(), np.median(lengths_N), lengths_N.max()))
    near = _NEAR * (high - low)
    if not low + near <= middle <= high - near:
        middle = (low + high) / 2
    ends = (low, middle, high) if high > low else (high,)
    found: dict[str, Any] = {
        "lengths_s": ends, "mean_s": float(lengths_N.mean()), "num_items": len(lengths_N),
    }  # fmt: skip
    if sizes_ND.shape[1] > 1:
        tokens_N = sizes_ND[:, 1]
        found["tokens"] = tuple(float(tokens_N[lengths_N <= end].max()) for end in ends)
        found["mean_tokens"] = float(tokens_N.mean())
    return found


def measure_peaks(
    subject: Subject, case: Case, *, others_bytes: int, own_bytes: int = 0
) -> tuple[int, int]:
    """Return the peaks (forward and backward, optimiser phase) of an update in bytes.

    The optimiser's state is there before; weights and all state are counted in both.

    Args:
        subject: what makes the update.
        case: how many items, of which size, in how many micro-batches.
        others_bytes: held by other subjects; not counted.
        own_bytes: what the process held before it built anything.
    """
    batches = subject.batches(case)
    with subject.settings():
        if subject.device.type == "cuda":
            peaks = _cuda_peaks(subject, batches)
        elif can_reset_peak():
            peaks = _resident_peaks(subject, batches)
        else:
            held = subject.static_bytes + _num_bytes(batches[0].tensors.values()) + others_bytes
            first, second = _allocated_peaks(subject, batches)
            peaks = first + held + own_bytes, second + held + own_bytes
    return peaks[0] - others_bytes, peaks[1] - others_bytes


class _CudaWatcher(Watcher):
    forward = 0

    def optimizer_begins(self) -> None:
        torch.cuda.synchronize()
        self.forward = torch.cuda.max_memory_allocated()
        torch.cuda.reset_peak_memory_stats()


def _cuda_peaks(subject: Subject, batches: Sequence[Batch]) -> tuple[int, int]:
    # The first update also sets up the libraries' workspaces, which then stay.
    subject.update(batches)
    subject.clear()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    watcher = _CudaWatcher()
    subject.update(batches, watcher)
    torch.cuda.synchronize()
    return watcher.forward, torch.cuda.max_memory_allocated()


class _ResidentWatcher(Watcher):
    forward = 0

    def optimizer_begins(self) -> None:
        self.forward = peak_resident_bytes()
        reset_peak()


def _resident_peaks(subject: Subject, batches: Sequence[Batch]) -> tuple[int, int]:
    subject.clear()
    watcher = _ResidentWatcher()
    with pages_of_their_own():
        reset_peak()
        subject.update(batches, watcher)
        return watcher.forward, peak_resident_bytes()


class _ProfiledWatcher(Watcher):
    def optimizer_begins(self) -> None:
        with record_function(_MARK):
            pass


def _allocated_peaks(subject: Subject, batches: Sequence[Batch]) -> tuple[int, int]:
    subject.clear()
    with profile(use_kineto=True, profile_memory=True) as profiler:
        subject.update(batches, _ProfiledWatcher())
    results = profiler.kineto_results
    assert results is not None
    return split_peaks(
        (event.start_ns(), event.name(), event.nbytes()) for event in results.events()
    )


def split_peaks(events: Iterable[tuple[int, str, int]]) -> tuple[int, int]:
    """Return the peaks before and after the mark of the optimiser phase.

    Args:
        events: time, name and bytes of each event; `[memory]` ones are allocations, or releases with
            negative bytes; others but the mark are passed over.
    """
    held = peak = first = 0
    for _, name, num_bytes in sorted(events, key=lambda event: event[0]):
        if name == _MARK:
            first, peak = peak, held
        elif name == "[memory]":
            held += num_bytes
            peak = max(peak, held)
    return first, peak


class _Clock(Watcher):
    """Notes the time at which the optimiser phase begins."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.at = 0.0

    def optimizer_begins(self) -> None:
        _synchronise(self._device)
        self.at = perf_counter()


class Timed:
    """A case that is timed: seconds of an update by round, and of its optimiser phase."""

    def __init__(self, subject: Subject, case: Case) -> None:
        self.subject = subject
        self._batches = subject.batches(case)
        self.update_s: list[float] = []
        self.optimizer_s: list[float] = []

    def warm_up(self) -> None:
        """Make updates that are not timed: kernels are chosen and compiled."""
        with self.subject.settings():
            for _ in range(_WARM_UP):
                self.subject.update(self._batches)
            _synchronise(self.subject.device)

    def run(self, seconds: float) -> None:
        """Time one round of about `seconds`, at least one update."""
        device = self.subject.device
        with self.subject.settings():
            clock = _Clock(device)
            self.subject.update(self._batches, clock)
            _synchronise(device)
            started = perf_counter()
            self.optimizer_s.append(started - clock.at)
            updates = 0
            while not updates or perf_counter() - started < seconds:
                self.subject.update(self._batches)
                _synchronise(device)
                updates += 1
            self.update_s.append((perf_counter() - started) / updates)


def rounds_of(timing_s: float) -> tuple[int, float]:
    """Return how many rounds a case is timed in, and the seconds of each."""
    return _ROUNDS, timing_s / _ROUNDS


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def _allocated(device: torch.device) -> int:
    return torch.cuda.memory_allocated() if device.type == "cuda" else 0


def _num_bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.untyped_storage().nbytes() for tensor in tensors)
