"""What is known about memory that ran out: which errors say so, what fits, what has to be put back.

Owns no retry: `engine.training.updates` makes an update again, in the pieces that are decided here. Letters:
B batch, the first dimension of every tensor of a `Batch`.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from engine.data.batch import Batch
from engine.training.interruption import Interrupted

# The types under which an allocator reports that it has nothing left.
MEMORY_ERRORS = (RuntimeError, MemoryError)
# How often one item is tried before it counts as too large.
MAX_TRIES_OF_ONE = 3

_SIGNS = (
    "not enough memory: you tried to allocate",
    "can't allocate memory",
    "out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
# Seeds of the pieces of a micro-batch differ from those of all micro-batches.
_PIECE_BITS = 40


class DoesNotFit(ValueError):
    """One item alone is too large for the memory of the device."""


class UpdateTorn(Interrupted):
    """Memory ran out while weights were being written: some may have moved, others not."""


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory ran out, of a GPU or of the machine."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


def release_memory() -> None:
    """Give back what garbage and the cache of the GPU hold."""
    gc.collect()
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()


@dataclass(frozen=True, slots=True)
class Shortage:
    """Memory ran out: in which update, with how many items of which shape, and with how many it goes on.

    `items` is 0 where it happened between gradients and weights, with no batch on the device.
    """

    update: int
    shape: str
    items: int
    items_after: int
    error: str
    rank: int = 0

    @property
    def message(self) -> str:
        """Return the sentence for log and dashboard."""
        if not self.items:
            return f"update {self.update}: out of memory before the step; nothing was lost"
        then = (
            f"at most {self.items_after} at once" if self.items_after < self.items else "as it was"
        )
        return (
            f"update {self.update}: out of memory with {self.items} item(s) of {self.shape}; the whole "
            f"update is made again, {then}"
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
    """The most items of each shape that are put on the device at once; empty while all went well.

    A shape is that of all tensors of a batch without their first dimension.
    """

    most: dict[str, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Tell whether there is any limit."""
        return bool(self.most)

    def split(self, whole: Pieces) -> Pieces:
        """Return the micro-batches in pieces that keep to the limits, the same ones every time."""
        batches: list[Batch] = []
        keys: list[int] = []
        for batch, key in zip(whole.batches, whole.keys, strict=True):
            count = num_items(batch)
            most = self.most.get(shape_of(batch), count)
            for start in range(0, count, most):
                batches.append(batch if most >= count else _part(batch, start, start + most))
                keys.append(key + (start << _PIECE_BITS))
        return Pieces(batches, keys)

    def learn(self, shortage: Shortage) -> None:
        """Keep to the number of items with which a shortage goes on."""
        if shortage.items_after < shortage.items:
            known = self.most.get(shortage.shape, shortage.items_after)
            self.most[shortage.shape] = min(known, shortage.items_after)

    def state_dict(self) -> dict[str, int]:
        """Return the limits by shape, fit for JSON."""
        return dict(self.most)

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Take the limits from `state`."""
        self.most = dict(state)


class MovingBuffers:
    """The buffers that a forward pass in training mode writes, such as running means.

    Which ones they are is seen in the first update; the others are never copied.
    """

    def __init__(self, model: nn.Module) -> None:
        self._buffers = list(model.buffers())
        self._copies: list[Tensor] = []
        self._versions: list[int] | None = None

    def save(self) -> None:
        """Copy them, before an update."""
        if self._versions is None:
            self._copies = [buffer.clone() for buffer in self._buffers]
            self._versions = [buffer._version for buffer in self._buffers]
        elif self._buffers:
            with torch.no_grad():
                torch._foreach_copy_(self._copies, self._buffers)

    def settle(self) -> None:
        """After the first update that was made: keep only those that moved."""
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
        """Put them back to what they were before the update."""
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
    """Decide how it goes on after memory ran out with `batch` on the device: with half of its items.

    Args:
        update: the update, from 1.
        batch: the micro-batch, or the piece of one.
        error: what the allocator said.
        tries: how often one item of a shape has failed in this update; is counted on here.

    Raises:
        DoesNotFit: when one item has failed three times.
    """
    shape, count = shape_of(batch), num_items(batch)
    if count == 1:
        tries[shape] = tries.get(shape, 0) + 1
        if tries[shape] == MAX_TRIES_OF_ONE:
            raise DoesNotFit(
                f"one item of {shape} needs more memory than there is: tried {MAX_TRIES_OF_ONE} times "
                f"at update {update} ({error}). Lower the length of items (data.segment_s, data.max_s) "
                "or the size of the model, raise batch.split for a transducer, or use "
                "precision.dtype = bf16; then enqueue a new run"
            )
    return Shortage(update, shape, count, -(-count // 2), error)


def first_line(error: BaseException) -> str:
    """Return the first line of what an allocator said, at most 300 characters of it."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:300]


def _part(batch: Batch, start: int, end: int) -> Batch:
    return Batch({name: tensor[start:end] for name, tensor in batch.tensors.items()})
