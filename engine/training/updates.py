"""One optimizer update: forward, backward, the one division, clipping, step, EMA.

Letters: B batch. Losses are sums; the division by the weight of the whole update, the clipping
factor and the fp16 scale are applied to the gradients as one number, inside the fused optimizer
kernel. An update with a non-finite loss or gradient leaves weights, moments and average unchanged;
the flag stays on the device, so nothing here waits for a GPU.

A recipe that looks ahead is shown all micro-batches, without gradients, before the first forward pass
(`engine.training.look_ahead`), unless one micro-batch is the whole update; where it can (`BeginsSteps`), the
first one is begun instead, so that its step goes on from there.

When memory runs out in a forward or backward pass, the whole update is repeated in smaller pieces
with the same seeds. After the backward pass, only the failed operation is repeated. The step itself
writes in place and allocates nothing; if it fails nevertheless, the run restarts from its last
checkpoint, because it is unknown which weights have changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor, nn

from engine.batching.batch import Batch
from engine.config.counters import Counters
from engine.config.schema import RunConfig
from engine.precision import LossScale, autocast, number_format
from engine.recipes.base import (
    FollowsUpdates,
    LooksAhead,
    Recipe,
    StepContext,
    StepOutput,
    UpdateMade,
)
from engine.recipes.whole_update import BeginsSteps, Finish
from engine.torch_random import seed_torch, torch_seed
from engine.training.ema import Ema
from engine.training.extras import Extras
from engine.training.look_ahead import LookAhead
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
_T = TypeVar("_T")


@dataclass(slots=True)
class UpdateResult:
    """Measurements of one update, as () tensors on the device: read them in blocks.

    `num_pieces` counts forward and backward passes over all ranks; `shortages` are out-of-memory;
    `metrics` is (2 M,), sum and weight of each training metric in turn; `scale` is the loss scale that
    fp16 gradients were computed at.
    """

    loss_sum: Tensor
    weight: Tensor
    grad_norm: Tensor
    num_pieces: int
    shortages: Sequence[Shortage] = ()
    metrics: Tensor | None = None
    scale: Tensor | None = None


class Updater:
    """Runs the updates of one model; its own state is the loss scale and the memory limits."""

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
        dtype = number_format(config.precision, device)
        self._full_precision = dtype == "fp32"
        self._ranks = ranks or Alone()
        self.extras = Extras(recipe)
        self._follower = recipe if isinstance(recipe, FollowsUpdates) else None
        self._looker = recipe if isinstance(recipe, LooksAhead) and recipe.ahead_shapes else None
        self._look_ahead = (
            LookAhead(self._looker, self._ranks, device=device) if self._looker else None
        )
        self._ahead: Mapping[str, Tensor] = {}
        self._beginner: BeginsSteps | None = None
        if self._looker is not None and isinstance(recipe, BeginsSteps):
            self._beginner = recipe
        # What goes on with the first micro-batch, whose graph it holds.
        self._begun: Finish | None = None
        self._ranks.attach(optimizer.params, num_extras=self.extras.size)
        self._has_more = bool(self.extras.size) or self._follower is not None
        self._buffers = MovingBuffers(model)
        self._current: Batch | None = None
        self._counters = _START
        self.loss_scale = LossScale(device) if dtype == "fp16" else None
        self.limits = MemoryLimits()

    def run(
        self, update: int, batches: Sequence[Batch], *, lr: float, counters: Counters = _START
    ) -> UpdateResult:
        """Run update number `update` (from 1) on its micro-batches; a rank may have none.

        `counters` are those before the update.

        Raises:
            DoesNotFit: when a single item does not fit in memory.
            UpdateTorn: when memory ran out while weights were written.
            RanksLost: when another process of the run has died.
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
            outcome = self._attempt(update, pieces, tries=tries)
            short = outcome if isinstance(outcome, Shortage) else None
            sums = ranks.add_up(outcome if isinstance(outcome, Sums) else self._no_sums(failed=1))
            if not sums.num_failed:
                break
            shortages += self._recover(short)
        self._buffers.settle()
        scale = None if self.loss_scale is None else self.loss_scale.value.clone()
        with torch.no_grad():
            grad_norm, skipped = self._finish(update, sums, lr=lr, shortages=shortages)
            metrics = self._follow(update, sums, skipped=skipped) if self._has_more else None
        return UpdateResult(
            sums.loss_sum,
            sums.weight,
            grad_norm=grad_norm,
            num_pieces=sums.num_pieces,
            shortages=shortages,
            metrics=metrics,
            scale=scale,
        )

    def _attempt(self, update: int, pieces: Pieces, *, tries: dict[str, int]) -> Sums | Shortage:
        """Return the sums of this rank, or the shortage when memory ran out."""
        self._ahead, self._begun = {}, None
        if self._look_ahead is not None and not (
            self._ranks.world == 1 and len(pieces.batches) == 1
        ):
            found = self._unless_short(self._look, update, pieces=pieces, tries=tries)
            own = None if isinstance(found, Shortage) else found
            self._ahead = self._look_ahead.over_ranks(own)
            if isinstance(found, Shortage):
                return found
        return self._unless_short(self._gradients, update, pieces=pieces, tries=tries)

    def _unless_short(
        self,
        passes: Callable[[int, Pieces], _T],
        update: int,
        *,
        pieces: Pieces,
        tries: dict[str, int],
    ) -> _T | Shortage:
        """Return what passes over the pieces came to, or the shortage when memory ran out."""
        try:
            return passes(update, pieces)
        except MEMORY_ERRORS as error:
            if not is_out_of_memory(error) or self._current is None:
                raise
            text = first_line(error)
        # Leaving the except block drops the traceback, which holds every tensor of the failed pass.
        return new_shortage(update, self._current, error=text, tries=tries)

    def _look(self, update: int, pieces: Pieces) -> Tensor:
        """Return this rank's share of the sums that the recipe looks ahead for."""
        assert self._looker is not None
        assert self._look_ahead is not None
        self._optimizer.clear_gradients()
        shares: list[Tensor] = []
        keyed = [
            (StepContext(self._counters, update, key=key), batch)
            for key, batch in zip(pieces.keys, pieces.batches, strict=True)
        ]
        with torch.no_grad():
            for context, batch in keyed if self._beginner is None else keyed[1:]:
                found = self._call(self._looker.look, batch, context=context)
                shares.append(self._look_ahead.flatten(found))
        self._buffers.restore()
        if self._beginner is not None and keyed:
            # Last, so that nothing draws or takes memory before its step goes on.
            context, batch = keyed[0]
            found, self._begun = self._call(self._beginner.begin, batch, context=context)
            shares.insert(0, self._look_ahead.flatten(found))
        # In the order of the pieces, so to the same bits however they were looked at.
        return sum(shares, start=self._look_ahead.zeros())

    def _gradients(self, update: int, pieces: Pieces) -> Sums:
        self._optimizer.clear_gradients()
        batches, keys = pieces.batches, pieces.keys
        if not batches:
            return self._no_sums()
        loss_sum, weight, extras = self._backward(update, keys[0], batch=batches[0])
        for position in range(1, len(batches)):
            more = self._backward(update, keys[position], batch=batches[position])
            loss_sum = loss_sum + more[0]
            weight = weight + more[1]
            if extras is not None and more[2] is not None:
                extras = extras + more[2]
        return Sums(loss_sum, weight, num_pieces=len(batches), extras=extras)

    def _no_sums(self, *, failed: int = 0) -> Sums:
        zero = torch.zeros((), device=self._device)
        extras = self.extras.zeros(self._device) if self.extras.size else None
        return Sums(zero, zero, num_pieces=0, num_failed=failed, extras=extras)

    def _recover(self, own: Shortage | None) -> list[Shortage]:
        """Undo the failed attempt; return the shortages of all ranks, and apply their limits."""
        self._optimizer.clear_gradients()
        self._current = self._begun = None
        self._buffers.restore()
        release_memory()
        rank = self._ranks.rank
        gathered = self._ranks.gather(own and replace(own, rank=rank))
        shortages = [shortage for shortage in gathered if shortage is not None]
        for shortage in shortages:
            self.limits.learn(shortage)
        return shortages

    def _backward(
        self, update: int, key: int, *, batch: Batch
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        context = StepContext(self._counters, update, key=key, ahead=self._ahead)
        output = self._step(batch, context)
        loss = output.loss_sum
        if self.loss_scale is not None:
            (loss * self.loss_scale.value).backward()  # type: ignore[no-untyped-call]
        else:
            loss.backward()  # type: ignore[no-untyped-call]
        has_extras = self.extras.size or output.metrics or output.statistics
        extras = self.extras.flatten(output) if has_extras else None
        return loss.detach(), output.weight, extras

    def _step(self, batch: Batch, context: StepContext) -> StepOutput:
        """Return what the recipe makes of a piece, from where it was begun if it was."""
        begun, self._begun = self._begun, None
        if begun is None:
            return self._call(self._recipe.step, batch, context=context)
        return self._in_precision(lambda: begun(context))

    def _call(self, function: Callable[..., _T], batch: Batch, *, context: StepContext) -> _T:
        """Call the recipe with a piece on the device, in the precision of the run, its draws seeded."""
        seed_torch(torch_seed(self._seed, context.update, micro_batch=context.key))
        self._current = batch
        if not self._on_cpu:
            batch = batch.to(self._device)
        return self._in_precision(lambda: function(self._model, batch, context=context))

    def _in_precision(self, work: Callable[[], _T]) -> _T:
        if self._full_precision:
            return work()
        with self._autocast:
            return work()

    def _finish(
        self, update: int, sums: Sums, *, lr: float, shortages: list[Shortage]
    ) -> tuple[Tensor, Tensor]:
        """Update weights, average and loss scale; return the gradient and the skip flag."""
        for tries in range(1, _MAX_TRIES + 1):
            try:
                grad_norm, divisor, skipped = self._measure(sums)
                break
            except MEMORY_ERRORS as error:
                if not is_out_of_memory(error):
                    raise
                text = first_line(error)
            release_memory()
            shortages.append(
                Shortage(
                    update, "gradients", items=0, items_after=0, error=text, rank=self._ranks.rank
                )
            )
            if tries == _MAX_TRIES:
                raise DoesNotFit(
                    f"update {update}: not enough memory left for the optimizer step ({text}); use a "
                    "smaller model, or free memory used by other programs"
                )
        try:
            self._optimizer.step(lr=lr, divisor=divisor, skipped=skipped)
        except MEMORY_ERRORS as error:
            if not is_out_of_memory(error):
                raise
            raise UpdateTorn(
                f"update {update}: out of memory while updating the weights ({first_line(error)}); "
                "the run has to restart from its last checkpoint"
            ) from None
        self._average(update, skipped)
        if self.loss_scale is not None:
            self.loss_scale.update(skipped)
        return grad_norm, skipped

    def _follow(self, update: int, sums: Sums, *, skipped: Tensor) -> Tensor | None:
        """Let the recipe move what is its own; return the training metrics of the update."""
        extras = sums.extras
        statistics = {} if extras is None else self.extras.statistics(extras)
        if self._follower is not None:
            made = UpdateMade(self._counters, update, skipped=skipped, statistics=statistics)
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
        """Return norm, divisor and skip flag; allocates everything the step needs, changes nothing."""
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
        """Update the average; parameter by parameter where memory runs out."""
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
