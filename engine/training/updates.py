"""One optimiser update: forward, backward, the one division, clipping, step, EMA.

Letters: B batch. Losses are sums; the division by the weight of the whole update, the clipping
factor and the fp16 scale reach the gradients as one number, inside the fused optimiser kernel. An
update whose loss or gradient is not finite leaves weights, moments and average as they were; the
flag stays on the device, so nothing here waits for a GPU.

When memory runs out in a forward or backward pass the whole update is made again, in smaller pieces
and with the same seeds. Between gradients and weights only what ran out is tried again. The step
itself writes in place and allocates nothing; should it fail all the same, the run goes back to its
last checkpoint, for nobody knows which weights have moved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from engine.config.counters import Counters
from engine.config.schema import RunConfig
from engine.data.batch import Batch
from engine.precision import LossScale, autocast
from engine.recipes.base import FollowsUpdates, Recipe, StepContext, UpdateMade
from engine.torch_random import seed_torch, torch_seed
from engine.training.ema import Ema
from engine.training.extras import Extras
from engine.training.optimizer import FusedAdamW
from engine.training.out_of_memory import (
    MEMORY_ERRORS,
    DoesNotFit,
    MemoryLimits,
    MovingBuffers,
    Pieces,
    Shortage,
    UpdateTorn,
    first_line,
    is_out_of_memory,
    new_shortage,
    release_memory,
)
from engine.training.ranks import Alone, Ranks, Sums

_MAX_TRIES = 3
_START = Counters()


@dataclass(slots=True)
class UpdateResult:
    """What one update measured, as () tensors on the device: read them in blocks.

    `num_pieces` counts forward and backward passes, over all ranks; `shortages` are those of memory;
    `metrics` is (2 M,), sum and weight of each training metric in turn.
    """

    loss_sum: Tensor
    weight: Tensor
    grad_norm: Tensor
    num_pieces: int
    shortages: Sequence[Shortage] = ()
    metrics: Tensor | None = None


class Updater:
    """Makes updates of one model; its own state is the loss scale and what fits into memory."""

    def __init__(
        self,
        recipe: Recipe,
        model: nn.Module,
        optimizer: FusedAdamW,
        *,
        config: RunConfig,
        device: torch.device,
        ema: Ema | None,
        ranks: Ranks | None = None,
    ) -> None:
        self._recipe = recipe
        self._model = model
        self._optimizer = optimizer
        self._device = device
        self._on_cpu = device.type == "cpu"
        self._ema = ema
        self._seed = config.seed
        self._clip_norm = config.optimizer.clip_norm
        self._autocast = autocast(config.precision, device)
        self._full_precision = config.precision.dtype == "fp32"
        self._ranks = ranks or Alone()
        self.extras = Extras(recipe)
        self._follower = recipe if isinstance(recipe, FollowsUpdates) else None
        self._ranks.attach(optimizer.params, num_extras=self.extras.size)
        self._has_more = bool(self.extras.size) or self._follower is not None
        self._buffers = MovingBuffers(model)
        self._current: Batch | None = None
        self._counters = _START
        self.loss_scale = LossScale(device) if config.precision.dtype == "fp16" else None
        self.limits = MemoryLimits()

    def run(
        self, update: int, batches: Sequence[Batch], *, lr: float, counters: Counters = _START
    ) -> UpdateResult:
        """Make update number `update` (from 1) from its micro-batches; those of a rank may be none.

        `counters` are those before the update.

        Raises:
            DoesNotFit: when there is not enough memory for a single item.
            UpdateTorn: when memory ran out while weights were written.
            RanksLost: when another process of the run is gone.
        """
        ranks, self._counters = self._ranks, counters
        whole = Pieces(
            batches, range(ranks.rank, ranks.rank + ranks.world * len(batches), ranks.world)
        )
        self._buffers.save()
        shortages: list[Shortage] = []
        tries: dict[str, int] = {}
        while True:
            pieces = self.limits.split(whole) if self.limits else whole
            found = self._try_gradients(update, pieces, tries)
            short = found if isinstance(found, Shortage) else None
            sums = ranks.add_up(found if isinstance(found, Sums) else self._no_sums(failed=1))
            if not sums.num_failed:
                break
            shortages += self._recover(short)
        self._buffers.settle()
        with torch.no_grad():
            grad_norm, skipped = self._finish(update, sums, lr, shortages)
            metrics = self._follow(update, sums, skipped) if self._has_more else None
        return UpdateResult(
            sums.loss_sum, sums.weight, grad_norm, sums.num_pieces, shortages, metrics
        )

    def _try_gradients(self, update: int, pieces: Pieces, tries: dict[str, int]) -> Sums | Shortage:
        """Return the sums of this rank, or what happened when memory ran out."""
        try:
            return self._gradients(update, pieces)
        except MEMORY_ERRORS as error:
            if not is_out_of_memory(error) or self._current is None:
                raise
            text = first_line(error)
        # The traceback, which holds every tensor of the failed pass, ends with the block above.
        return new_shortage(update, self._current, error=text, tries=tries)

    def _gradients(self, update: int, pieces: Pieces) -> Sums:
        self._optimizer.clear_gradients()
        batches, keys = pieces.batches, pieces.keys
        if not batches:
            return self._no_sums()
        loss_sum, weight, extras = self._backward(update, keys[0], batches[0])
        for position in range(1, len(batches)):
            more = self._backward(update, keys[position], batches[position])
            loss_sum = loss_sum + more[0]
            weight = weight + more[1]
            if extras is not None and more[2] is not None:
                extras = extras + more[2]
        return Sums(loss_sum, weight, len(batches), extras=extras)

    def _no_sums(self, *, failed: int = 0) -> Sums:
        zero = torch.zeros((), device=self._device)
        extras = self.extras.zeros(self._device) if self.extras.size else None
        return Sums(zero, zero, 0, failed, extras)

    def _recover(self, own: Shortage | None) -> list[Shortage]:
        """Put back what the failed attempt changed; return what happened on any rank, and heed it."""
        self._optimizer.clear_gradients()
        self._current = None
        self._buffers.restore()
        release_memory()
        rank = self._ranks.rank
        found = self._ranks.gather(own and replace(own, rank=rank))
        shortages = [shortage for shortage in found if shortage is not None]
        for shortage in shortages:
            self.limits.learn(shortage)
        return shortages

    def _backward(
        self, update: int, key: int, batch: Batch
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        seed_torch(torch_seed(self._seed, update, key))
        self._current = batch
        if not self._on_cpu:
            batch = batch.to(self._device)
        context = StepContext(self._counters, update, key)
        if self._full_precision:
            output = self._recipe.step(self._model, batch, context=context)
        else:
            with self._autocast:
                output = self._recipe.step(self._model, batch, context=context)
        loss = output.loss_sum
        if self.loss_scale is not None:
            (loss * self.loss_scale.value).backward()  # type: ignore[no-untyped-call]
        else:
            loss.backward()  # type: ignore[no-untyped-call]
        has_extras = self.extras.size or output.metrics or output.statistics
        extras = self.extras.flatten(output) if has_extras else None
        return loss.detach(), output.weight, extras

    def _finish(
        self, update: int, sums: Sums, lr: float, shortages: list[Shortage]
    ) -> tuple[Tensor, Tensor]:
        """Move weights, average and loss scale; return the norm of the gradient and the skip flag."""
        for tries in range(1, _MAX_TRIES + 1):
            try:
                grad_norm, divisor, skipped = self._measure(sums)
                break
            except MEMORY_ERRORS as error:
                if not is_out_of_memory(error):
                    raise
                text = first_line(error)
            release_memory()
            shortages.append(Shortage(update, "gradients", 0, 0, text, self._ranks.rank))
            if tries == _MAX_TRIES:
                raise DoesNotFit(
                    f"update {update}: the gradients leave no memory for the step ({text}); choose a "
                    "smaller model, or free memory that other programs hold"
                )
        try:
            self._optimizer.step(lr=lr, divisor=divisor, skipped=skipped)
        except MEMORY_ERRORS as error:
            if not is_out_of_memory(error):
                raise
            raise UpdateTorn(
                f"update {update}: out of memory while weights were written ({first_line(error)}); "
                "the run has to go back to its last checkpoint"
            ) from None
        self._average(update, skipped)
        if self.loss_scale is not None:
            self.loss_scale.update(skipped)
        return grad_norm, skipped

    def _follow(self, update: int, sums: Sums, skipped: Tensor) -> Tensor | None:
        """Let the recipe move what is its own; return the training metrics of the update."""
        extras = sums.extras
        statistics = {} if extras is None else self.extras.statistics(extras)
        if self._follower is not None:
            made = UpdateMade(self._counters, update, skipped, statistics)
            try:
                self._follower.after_step(self._model, made)
            except MEMORY_ERRORS as error:
                if not is_out_of_memory(error):
                    raise
                raise UpdateTorn(
                    f"update {update}: out of memory after the step ({first_line(error)}); the run "
                    "has to go back to its last checkpoint"
                ) from None
        return None if extras is None else self.extras.metrics(extras)

    def _measure(self, sums: Sums) -> tuple[Tensor, Tensor, Tensor]:
        """Return norm, divisor and skip flag; allocates all that the step needs and changes nothing."""
        grads = self._optimizer.gradients()
        weight = sums.weight
        divisor = weight if self.loss_scale is None else weight * self.loss_scale.value
        grad_norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads))) / divisor
        # x - x is 0 for a finite x and NaN for any other; NaN != 0 holds.
        both = grad_norm + sums.loss_sum
        skipped = (both - both).ne_(0)
        if self._clip_norm:
            divisor = (grad_norm / self._clip_norm).clamp_(min=1.0).mul_(divisor)
        return grad_norm, divisor.float(), skipped.float()

    def _average(self, update: int, skipped: Tensor) -> None:
        """Update the average; without memory for all of it at once, one parameter after another."""
        if self._ema is None:
            return
        try:
            self._ema.update(update, skipped=skipped)
            return
        except MEMORY_ERRORS as error:
            if not is_out_of_memory(error):
                raise
        self._optimizer.clear_gradients()
        release_memory()
        self._ema.update(update, skipped=skipped, one_by_one=True)
