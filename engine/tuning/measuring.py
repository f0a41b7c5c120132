"""Measures memory and time of updates, run as in the trainer, on synthetic batches.

On a GPU, memory is the peak of torch's allocator. On a CPU it is the peak of resident memory: tensors
alone understate it by a quarter, because the convolution library allocates buffers of its own. Larger
blocks get pages of their own meanwhile; otherwise the heap would reuse freed blocks, and a small peak
would not show in resident memory. Systems that report no such peak use the peak of the
allocations seen by the profiler, added to the memory of the process.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.profiler import profile, record_function

from engine.batching.batch import Batch
from engine.config.counters import UpdateSize
from engine.config.schema import RunConfig, thawed
from engine.precision import backend_settings, place
from engine.recipes.base import KeepsState
from engine.recipes.registry import open_recipe
from engine.torch_random import seed_everything
from engine.training.eight_bit import EightBitAdamW
from engine.training.ema import Ema
from engine.training.optimizer import FusedAdamW
from engine.training.out_of_memory import (
    DoesNotFit,
    MemoryLimits,
    Shortage,
    UpdateTorn,
    release_memory,
)
from engine.training.parameter_groups import groups_of
from engine.training.ranks import Ranks
from engine.training.updates import Updater
from engine.tuning.machine import (
    can_reset_peak,
    pages_of_their_own,
    peak_resident_bytes,
    reset_peak,
)
from engine.tuning.trials import Case, Part

_MARK = "sepdash optimizer phase"
_WARM_UP = 2
# Short rounds keep neighbours close in time, and a race may have hundreds.
_ROUND_S = 0.1
_LONG_S = 0.25
# More micro-batches add no information: the rest of an update repeats the second one.
_MOST_MEASURED = 2
# The quadratic law needs three distinct lengths. A median within this fraction of either end hardly
# constrains the curvature, and dividing by a short distance amplifies noise of the peaks. The midpoint
# of the range is probed instead.
_NEAR = 0.1


# The updater has no hook between the last backward pass and the step, and adding one would change the
# code under measurement. It reads the gradients for the first time exactly there, so overriding that
# method marks the boundary. The watcher is dropped after this call, because the step reads them again.
class _WatchedAdamW(FusedAdamW):
    """Notifies a watcher when an update reads its gradients, which marks the end of the backward pass."""

    watcher: Watcher | None = None

    def gradients(self) -> list[Tensor]:
        if self.watcher is not None:
            self.watcher.optimizer_begins()
            self.watcher = None
        return super().gradients()


class _WatchedEightBit(_WatchedAdamW, EightBitAdamW):
    """The same with moments in 8 bits."""


class Watcher:
    """Notified once per update, when its optimizer phase begins."""

    def optimizer_begins(self) -> None:
        """Handle the end of forward and backward of all micro-batches."""


class _OneTry(MemoryLimits):
    """Lets an update fail when memory runs out: retrying in smaller pieces would measure another batch."""

    def learn(self, shortage: Shortage) -> None:
        raise MemoryError(shortage.error)


class Subject:
    """One config with its network, optimizer and EMA, ready to run updates.

    Args:
        config: the config.
        device: where its network is.
        ranks: processes that can update together.
    """

    def __init__(
        self, config: RunConfig, device: torch.device, *, ranks: Ranks | None = None
    ) -> None:
        self.config = config
        self.device = device
        before = _allocated(device)
        self._recipe = open_recipe(thawed(config))
        seed_everything(config.seed)
        self.model = place(self._recipe.build_model(), config.precision, device=device)
        self.model.train()
        if isinstance(self._recipe, KeepsState):
            self._recipe.start_state(self.model, device)
        size = UpdateSize(1, 1, audio_seconds=1.0, epochs=1.0)
        ema = Ema(self.model, config.ema, size) if config.ema.enabled else None
        kind = _WatchedEightBit if config.optimizer.eight_bit else _WatchedAdamW
        self._optimizer = kind(
            self.model, config.optimizer, groups=groups_of(self._recipe, self.model, config=config)
        )

        def updater(some: Ranks | None) -> Updater:
            made = Updater(
                self._recipe, self.model, self._optimizer,
                config=config, device=device, ema=ema, ranks=some,
            )  # fmt: skip
            made.limits = _OneTry()
            return made

        self._updater = updater(None)
        self._together = self._updater if ranks is None else updater(ranks)
        state = [*self.model.state_dict().values(), *self._optimizer.state_dict().values()]
        averages = list(ema.state_dict().values()) if ema is not None else []
        on_cpu = device.type == "cpu"
        self.static_bytes = (
            _num_bytes([*state, *averages]) if on_cpu else _allocated(device) - before
        )
        self._made = 0

    def batches(self, count: int, shape: tuple[float, ...]) -> list[Batch]:
        """Return a synthetic micro-batch, in pinned memory for a GPU; a list, to be repeated."""
        batch = self._recipe.worst_batch(count, shape)
        if self.device.type == "cuda":
            batch = Batch({name: tensor.pin_memory() for name, tensor in batch.tensors.items()})
        return [batch]

    def update(
        self, batches: Sequence[Batch], watcher: Watcher | None = None, *, together: bool = False
    ) -> None:
        """Run one update with learning rate 0, of this process or of all ranks together.

        Raises:
            MemoryError: when memory ran out.
        """
        self._optimizer.watcher = watcher
        self._made += 1
        try:
            updater = self._together if together else self._updater
            shortages = updater.run(self._made, batches, lr=0.0).shortages
            short = shortages[0].error if shortages else ""
        except (DoesNotFit, UpdateTorn) as error:
            short = str(error)
        if short:
            raise MemoryError(short)

    def settings(self) -> AbstractContextManager[None]:
        """Return a context with the backend switches of this config."""
        return backend_settings(self.config.precision)

    def item_sizes(self) -> dict[str, Any]:
        """Return the fields of `Facts` about the sizes of the training items."""
        return describe_sizes(self._recipe.sizes("train"))

    def clear(self) -> None:
        """Drop the gradients and release unused memory."""
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
    facts: dict[str, Any] = {
        "lengths_s": ends, "mean_s": float(lengths_N.mean()), "num_items": len(lengths_N),
    }  # fmt: skip
    if sizes_ND.shape[1] > 1:
        tokens_N = sizes_ND[:, 1]
        facts["tokens"] = tuple(float(tokens_N[lengths_N <= end].max()) for end in ends)
        facts["mean_tokens"] = float(tokens_N.mean())
    return facts


def measure_peaks(
    subject: Subject, case: Case, *, others_bytes: int, own_bytes: int = 0
) -> tuple[int, int]:
    """Return the peaks (forward and backward, optimizer phase) of an update in bytes.

    The optimizer's state is allocated before; both peaks include weights and all state.

    Args:
        subject: runs the update.
        case: how many items, of which size, in how many micro-batches.
        others_bytes: memory of other subjects; subtracted.
        own_bytes: memory of the process before it built anything.
    """
    batches = subject.batches(case.count, case.shape) * min(case.micro_batches, _MOST_MEASURED)
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
    # The first update also allocates the libraries' workspaces, which are permanent. The peak of the
    # second update is the one that every later update reaches, so only that one is measured. Its
    # watcher splits it in two by resetting the counter when the optimizer phase begins.
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
    """Return the peaks before and after the mark of the optimizer phase.

    Args:
        events: time, name and bytes of each event; `[memory]` ones are allocations, or releases with
            negative bytes; all other events except the mark are ignored.
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
    """Records the time at which the optimizer phase begins."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.at = 0.0

    def optimizer_begins(self) -> None:
        _synchronise(self._device)
        self.at = perf_counter()


class Timed:
    """A timed case: an update is extrapolated from one or two micro-batches of each of its parts."""

    def __init__(self, subject: Subject, case: Case) -> None:
        self.subject = subject
        self._parts = [
            _TimedPart(subject, part, is_only=len(case.parts) == 1) for part in case.parts
        ]

    def warm_up(self) -> bool:
        """Run untimed updates, in which kernels are selected and compiled."""
        with self.subject.settings():
            for part in self._parts:
                for _ in range(_WARM_UP):
                    part.time_once()
        return True

    def run(self) -> float:
        """Time one round; return the seconds of a whole update."""
        with self.subject.settings():
            rounds = [part.run(_ROUND_S / len(self._parts)) for part in self._parts]
        # The optimizer runs once an update, whatever its parts.
        optimizer_s = median(optimizer for _, optimizer in rounds)
        passes_s = sum(
            part.times * max(update - optimizer, 0.0)
            for part, (update, optimizer) in zip(self._parts, rounds, strict=True)
        )
        return passes_s + optimizer_s


class _TimedPart:
    def __init__(self, subject: Subject, part: Part, *, is_only: bool) -> None:
        self._subject = subject
        measured = min(_MOST_MEASURED, max(1, round(part.micro_batches))) if is_only else 1
        self.times = part.micro_batches / measured
        self._batches = subject.batches(part.count, part.shape) * measured
        self._is_slow = False

    def time_once(self) -> tuple[float, float]:
        """Run an update; return its seconds, and those after its last backward pass."""
        return time_update(self._subject, self._batches)

    def run(self, seconds: float) -> tuple[float, float]:
        """Return the means over about `seconds`, at least one update.

        Another case ran before: the first update, which also shows the optimizer's share, is not counted
        unless it is so long that what the other left behind does not matter (never so on a GPU, whose
        memory may have to be divided anew, and which waits for the clock).
        """
        update_s, optimizer_s = self.time_once()
        if self._subject.device.type == "cpu" and update_s >= _LONG_S:
            return update_s, optimizer_s
        updates, started = 0, perf_counter()
        while not updates or perf_counter() - started < seconds:
            self._subject.update(self._batches)
            _synchronise(self._subject.device)
            updates += 1
        return (perf_counter() - started) / updates, optimizer_s


def time_update(
    subject: Subject, batches: Sequence[Batch], *, together: bool = False
) -> tuple[float, float]:
    """Run an update; return its seconds, and those after its last backward pass (and sum over ranks)."""
    clock = _Clock(subject.device)
    _synchronise(subject.device)
    started = perf_counter()
    subject.update(batches, clock, together=together)
    _synchronise(subject.device)
    ended = perf_counter()
    return ended - started, ended - clock.at


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def _allocated(device: torch.device) -> int:
    return torch.cuda.memory_allocated() if device.type == "cuda" else 0


def _num_bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.untyped_storage().nbytes() for tensor in tensors)
