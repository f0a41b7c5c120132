"""Running out of memory: which errors report it, what fits, and what has to be restored.

Owns no retry: `engine.training.updates` repeats an update, in the pieces that are decided here. Letters:
B batch, the first dimension of every tensor of a `Batch`.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from engine.batching.batch import Batch
from engine.training.interruption import Interrupted

# The exception types of a failed allocation.
MEMORY_ERRORS = (RuntimeError, MemoryError)
# Attempts at a single item before it counts as too large.
MAX_TRIES_OF_ONE = 3

_SIGNS = (
    "not enough memory: you tried to allocate",
    "can't allocate memory",
    "out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    # cuDNN 9 and cuFFT.
    "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED",
    "GET was unable to find an engine to execute this computation",
    "CUFFT_ALLOC_FAILED",
)
# Bits that number the pieces of a micro-batch, so that no piece shares its seed with another.
_PIECE_BITS = 40


class DoesNotFit(ValueError):
    """One item alone is too large for the memory of the device."""


class UpdateTorn(Interrupted):
    """Memory ran out while weights were being written: some may have changed, others not."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that a GPU or the machine ran out of memory."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


def release_memory() -> None:
    """Free garbage and the cached memory of the GPU."""
    gc.collect()
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()


@dataclass(frozen=True, slots=True)
class Shortage:
    """Memory ran out: in which update, with how many items of which shape, and how many are tried next.

    `items` is 0 where it happened after the backward pass, with no batch on the device.
    """

    update: int
    shape: str
    items: int
    items_after: int
    error: str
    rank: int = 0

    @property
    def message(self) -> str:
        """Return the message for log and dashboard."""
        if not self.items:
            return f"update {self.update}: out of memory before the optimizer step; retried, no data lost"
        retry = "unchanged"
        if self.items_after < self.items:
            retry = f"with at most {self.items_after} item(s) per micro-batch"
        return (
            f"update {self.update}: out of memory with a micro-batch of {self.items} item(s) (shape "
            f"{self.shape}); repeating the update {retry}"
        )

    @property
    def details(self) -> dict[str, float | int | str]:
        """Return the numbers."""
        return {
            "update": self.update, "shape": self.shape, "items_before": self.items,
            "items_after": self.items_after, "process": self.rank, "error": self.error,
        }  # fmt: skip


@dataclass(slots=True)
class Pieces:
    """Micro-batches, or parts of them, each with the key of its random draws."""

    batches: Sequence[Batch]
    keys: Sequence[int]


@dataclass(slots=True)
class MemoryLimits:
    """The maximum number of items of each shape in a micro-batch; empty until memory runs out.

    A shape is that of all tensors of a batch without their first dimension.
    """

    most: dict[str, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Return whether there is any limit."""
        return bool(self.most)

    def split(self, whole: Pieces) -> Pieces:
        """Return the micro-batches in pieces within the limits; deterministic."""
        batches: list[Batch] = []
        keys: list[int] = []
        for batch, key in zip(whole.batches, whole.keys, strict=True):
            count = num_items(batch)
            most = self.most.get(shape_of(batch), count)
            for start in range(0, count, most):
                batches.append(batch if most >= count else _part(batch, start, end=start + most))
                keys.append(key + (start << _PIECE_BITS))
        return Pieces(batches, keys)

    def learn(self, shortage: Shortage) -> None:
        """Lower the limit of a shape to the number of items that a shortage left."""
        if shortage.items_after < shortage.items:
            known = self.most.get(shortage.shape, shortage.items_after)
            self.most[shortage.shape] = min(known, shortage.items_after)

    def state_dict(self) -> dict[str, int]:
        """Return the limits by shape, as JSON values."""
        return dict(self.most)

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Load the limits from `state`; ValueError where one is no number of items."""
        wrong = [name for name, most in state.items() if type(most) is not int or most < 1]
        if wrong:
            raise ValueError(f"memory_limits: {wrong[0]!r:.40} is no number of items")
        self.most = dict(state)


class MovingBuffers:
    """The buffers that a forward pass in training mode changes, such as running means.

    The first update shows which ones they are; the others are not copied afterwards.
    """

    def __init__(self, model: nn.Module) -> None:
        self._buffers = list(model.buffers())
        self._copies: list[Tensor] = []
        self._versions: list[int] | None = None

    def save(self) -> None:
        """Copy them; called before an update."""
        if self._versions is None:
            self._copies = [buffer.clone() for buffer in self._buffers]
            self._versions = [buffer._version for buffer in self._buffers]
        elif self._buffers:
            with torch.no_grad():
                torch._foreach_copy_(self._copies, self._buffers)

    def settle(self) -> None:
        """After the first completed update: keep only the buffers that changed."""
        if not self._versions:
            return
        moved = [
            index
            for index, (buffer, version) in enumerate(
                zip(self._buffers, self._versions, strict=True)
            )
            if buffer._version != version
        ]
        self._buffers = [self._buffers[index] for index in moved]
        self._copies = [self._copies[index] for index in moved]
        self._versions = []

    @torch.no_grad()
    def restore(self) -> None:
        """Restore their values from before the update."""
        versions = self._versions or [-1] * len(self._buffers)
        for buffer, copy, version in zip(self._buffers, self._copies, versions, strict=True):
            if buffer._version != version:
                buffer.copy_(copy)


def num_items(batch: Batch) -> int:
    """Return B."""
    return len(next(iter(batch.tensors.values())))


def shape_of(batch: Batch) -> str:
    """Return the shapes of the tensors of one item, by name."""
    shapes = sorted((name, tuple(tensor.shape[1:])) for name, tensor in batch.tensors.items())
    return ", ".join(f"{name} {' x '.join(map(str, shape)) or '1'}" for name, shape in shapes)


def new_shortage(update: int, batch: Batch, *, error: str, tries: dict[str, int]) -> Shortage:
    """Return the shortage after memory ran out with `batch` on the device; half of its items are next.

    Args:
        update: the update, from 1.
        batch: the micro-batch, or the piece of one.
        error: message of the allocator.
        tries: failures of a single item in this update, by shape; incremented here.

    Raises:
        DoesNotFit: when one item has failed three times.
    """
    shape, count = shape_of(batch), num_items(batch)
    if count == 1:
        tries[shape] = tries.get(shape, 0) + 1
        if tries[shape] == MAX_TRIES_OF_ONE:
            raise DoesNotFit(
                f"a single item (shape {shape}) does not fit in memory: tried {MAX_TRIES_OF_ONE} times "
                f"at update {update} ({error}). Use shorter items (data.segment_s, data.max_s) or a "
                "smaller model, raise batch.split for a transducer, or use precision.dtype = bf16; "
                "then enqueue a new run"
            )
    return Shortage(update, shape, items=count, items_after=-(-count // 2), error=error)


def first_line(error: BaseException) -> str:
    """Return the first line of an error message, at most 300 characters of it."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:300]


def _part(batch: Batch, start: int, *, end: int) -> Batch:
    return Batch({name: tensor[start:end] for name, tensor in batch.tensors.items()})
