"""Processes that train one model together, one per GPU: the interface, and the null object of one process.

Every rank makes the same updates from its own share of the data: gradients are accumulated without
hooks and summed once per update, in one flat buffer that also carries loss, weight and flags. Only
the first rank emits events, evaluates and saves; the others wait for it at the next sum. A single
process opens no process group and has no overhead.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from itertools import accumulate
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from engine.config.sections import PrecisionConfig
from engine.precision import resolve_device
from engine.training.interruption import Interrupted

# Never reached in practice: the first rank may evaluate full files for hours while the others wait.
_PATIENCE = timedelta(days=30)
# Numbers at the front of the buffer: loss, weight, failed, stop, pieces.
_NUM_FLAGS = 5


class RanksLost(Interrupted):
    """Another process of this run has died."""


@dataclass(slots=True)
class Sums:
    """The sums of an update: of one rank, or of all ranks after `Ranks.add_up`.

    Attributes:
        loss_sum: () sum of the loss.
        weight: () its divisor.
        num_pieces: forward and backward passes.
        num_failed: ranks that ran out of memory; the sums are invalid if there are any.
        extras: (E,) what `engine.training.extras` keeps of the steps; None where it keeps nothing.
    """

    loss_sum: Tensor
    weight: Tensor
    num_pieces: int
    num_failed: int = 0
    extras: Tensor | None = None


class Ranks(Protocol):
    """The processes of a run, as one of them sees it."""

    @property
    def rank(self) -> int:
        """Return the number of this process, from 0; the first one emits events, evaluates and saves."""

    @property
    def world(self) -> int:
        """Return the number of processes."""

    @property
    def device(self) -> torch.device | None:
        """Return the device of this process; None: the config decides."""

    def attach(self, params: Sequence[Tensor], *, num_extras: int = 0) -> None:
        """Prepare for a run that sums the gradients of these parameters, and E extras."""

    def add_up(self, sums: Sums) -> Sums:
        """Sum losses and gradients over all ranks, equal on each; called once per attempt at an update."""

    def sum_of(self, vector: Tensor) -> Tensor:
        """Return the sum of a small vector over all ranks, without waiting for the device."""

    def stop_reason(self, own: str | None) -> str | None:
        """Return why all ranks stop now; a rank's `own` reason reaches the others at the next update."""

    def gather(self, value: Any) -> list[Any]:
        """Return the value of each rank, in order; every rank must call it."""

    def require_equal(self, what: str, value: Callable[[], str]) -> None:
        """Check that a value is the same on all ranks.

        Raises:
            RuntimeError: naming `what` differs.
        """


class Alone:
    """A single process."""

    rank = 0
    world = 1
    device: torch.device | None = None

    def attach(self, params: Sequence[Tensor], *, num_extras: int = 0) -> None:
        """Do nothing."""

    def add_up(self, sums: Sums) -> Sums:
        """Return the sums unchanged, and leave the gradients unchanged."""
        return sums

    def sum_of(self, vector: Tensor) -> Tensor:
        """Return it unchanged."""
        return vector

    def stop_reason(self, own: str | None) -> str | None:
        """Return the own reason."""
        return own

    def gather(self, value: Any) -> list[Any]:
        """Return a list of this one value."""
        return [value]

    def require_equal(self, what: str, value: Callable[[], str]) -> None:
        """Do nothing."""


class TorchRanks:
    """The processes of a process group of torch.distributed, which must be open.

    Args:
        device: where this process trains; it holds the gradient buffer.
    """

    def __init__(self, device: torch.device) -> None:
        import torch.distributed

        self._dist = torch.distributed
        self.rank: int = torch.distributed.get_rank()
        self.world: int = torch.distributed.get_world_size()
        self.device: torch.device | None = device
        self._params: list[Tensor] = []
        self._own_reason: str | None = None
        self._agreed: str | None = None

    def attach(self, params: Sequence[Tensor], *, num_extras: int = 0) -> None:
        """Allocate the buffer: flags, which parameters have a gradient, extras, and the gradients."""
        self._own_reason = self._agreed = None
        self._params = list(params)
        self._head = _NUM_FLAGS + len(self._params)
        dtype = torch.float32
        for param in self._params:
            dtype = torch.promote_types(dtype, param.dtype)
        first = self._head + num_extras
        ends = list(accumulate((param.numel() for param in self._params), initial=first))
        self._buffer = torch.zeros(ends[-1], dtype=dtype, device=self.device)
        self._views = [
            self._buffer.as_strided(param.size(), param.stride(), start)
            if _is_dense(param)
            else self._buffer[start : start + param.numel()].view(param.shape)
            for param, start in zip(self._params, ends, strict=False)
        ]
        self._extras = self._buffer[self._head : first] if num_extras else None

    @torch.no_grad()
    def add_up(self, sums: Sums) -> Sums:
        """Sum losses and gradients over all ranks; the parameters' gradients become views of the sum.

        A parameter without a gradient on any rank has none afterwards. Synchronises with the device once.

        Raises:
            RanksLost: when another rank is gone.
        """
        has_grad = [param.grad is not None and not sums.num_failed for param in self._params]
        if not all(has_grad):
            self._buffer.zero_()
        flags = [
            float(sums.num_failed),
            float(self._own_reason is not None),
            float(sums.num_pieces),
        ]
        self._buffer[2 : self._head] = torch.tensor([*flags, *map(float, has_grad)])
        if not sums.num_failed:
            self._buffer[0], self._buffer[1] = sums.loss_sum, sums.weight
            if self._extras is not None and sums.extras is not None:
                self._extras.copy_(sums.extras)
            grads = [param.grad for param in self._params if param.grad is not None]
            if grads:
                views = [v for v, has in zip(self._views, has_grad, strict=True) if has]
                torch._foreach_copy_(views, grads)
        self._all_reduce(self._buffer)
        own = self._buffer[: self._head].clone()
        _, _, num_failed, stop, num_pieces, *num_grads = own.tolist()
        for param, view, count in zip(self._params, self._views, num_grads, strict=True):
            param.grad = view if count else None
        if stop:
            self._agreed = self._own_reason or "stop requested"
        extras = None if self._extras is None else self._extras.clone()
        return Sums(
            own[0],
            own[1],
            num_pieces=round(num_pieces),
            num_failed=round(num_failed),
            extras=extras,
        )

    def sum_of(self, vector: Tensor) -> Tensor:
        """Sum it in place.

        Raises:
            RanksLost: when another rank is gone.
        """
        self._all_reduce(vector)
        return vector

    def stop_reason(self, own: str | None) -> str | None:
        """Send the own reason with the next sum; return the reason once all ranks have it."""
        self._own_reason = own
        return self._agreed

    def gather(self, value: Any) -> list[Any]:
        """Return the value of each rank, in order.

        Raises:
            RanksLost: when another rank is gone.
        """
        values: list[Any] = [None] * self.world
        with _others_alive():
            self._dist.all_gather_object(values, value)
        return values

    def require_equal(self, what: str, value: Callable[[], str]) -> None:
        """Compare the value of all ranks."""
        values = self.gather(value())
        if len(set(values)) > 1:
            raise RuntimeError(
                f"the processes of this run differ in {what}: {', '.join(map(str, values))}; "
                "this is a bug or a hardware fault, not a config error"
            )

    def _all_reduce(self, buffer: Tensor) -> None:
        with _others_alive():
            self._dist.all_reduce(buffer)


@contextmanager
def open_ranks(precision: PrecisionConfig) -> Iterator[Ranks]:
    """Join the other processes of the run, started by `torchrun`; `Alone` for a single one.

    Raises:
        ValueError: when more or fewer processes were started than `precision.devices`.
    """
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if started != precision.devices:
        raise ValueError(
            f"precision.devices = {precision.devices}, but {started} process(es) were started; "
            "run it with `sepdash worker`, which starts one per device"
        )
    if started == 1:
        yield Alone()
        return
    import torch.distributed

    device = resolve_device(precision.device)
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    backend = "nccl" if device.type == "cuda" else "gloo"
    torch.distributed.init_process_group(backend, timeout=_PATIENCE)
    yield TorchRanks(device)
    # After an error the group stays open: closing it would end the others before the error is reported.
    torch.distributed.destroy_process_group()


def state_hash(tensors: Mapping[str, Tensor]) -> str:
    """Return 16 hex digits over tensors and their names; copies them to the CPU."""
    digest = sha256()
    for name, tensor in tensors.items():
        digest.update(name.encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b"")
    return digest.hexdigest()[:16]


def require_no_batch_norm(model: nn.Module, ranks: Ranks) -> None:
    """Check that several processes can train a model.

    Raises:
        ValueError: when it has batch normalisation, whose statistics would differ between them.
    """
    if ranks.world == 1:
        return
    kinds = (nn.modules.batchnorm._BatchNorm,)
    names = [name for name, module in model.named_modules() if isinstance(module, kinds)]
    if names:
        raise ValueError(
            f"precision.devices = {ranks.world}: the model uses batch normalisation ({names[0]}), "
            "whose statistics would differ between processes; use another normalisation or set "
            "precision.devices = 1"
        )


@contextmanager
def _others_alive() -> Iterator[None]:
    """Turn the error of a collective call into `RanksLost`."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise RanksLost(f"lost another process of this run: {error}") from error


def _is_dense(param: Tensor) -> bool:
    """Return whether a tensor fills its memory without gaps, in any order of its dimensions."""
    expected = 1
    for stride, size in sorted(zip(param.stride(), param.shape, strict=True)):
        if size == 1:
            continue
        if stride != expected:
            return False
        expected *= size
    return True
