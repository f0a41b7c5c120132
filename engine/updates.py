"""One optimiser update: forward, backward, the one division, clipping, step, EMA.

Letters: B batch. Losses are sums; the division by the weight of the whole update, the clipping
factor and the fp16 scale reach the gradients as one number, inside the fused optimiser kernel. An
update whose loss or gradient is not finite leaves weights, moments and average as they were; the
flag stays on the device, so nothing here waits for a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from engine.config.schema import RunConfig
from engine.ema import Ema
from engine.optimizer import FusedAdamW
from engine.precision import LossScale, autocast
from engine.randomness import seed_torch, torch_seed
from engine.recipes.base import Batch, Recipe


@dataclass(slots=True)
class UpdateResult:
    """What one update measured, as () tensors on the device: read them in blocks."""

    loss_sum: Tensor
    weight: Tensor
    grad_norm: Tensor


class Updater:
    """Makes updates of one model; holds no state of its own but the loss scale."""

    def __init__(
        self,
        recipe: Recipe,
        model: nn.Module,
        optimizer: FusedAdamW,
        *,
        config: RunConfig,
        device: torch.device,
        ema: Ema | None,
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
        self.loss_scale = LossScale(device) if config.precision.dtype == "fp16" else None

    def run(self, update: int, batches: Sequence[Batch], *, lr: float) -> UpdateResult:
        """Make update number `update` (from 1) from its micro-batches."""
        self._optimizer.clear_gradients()
        loss_sum, weight = self._backward(update, 0, batches[0])
        for position in range(1, len(batches)):
            more_loss, more_weight = self._backward(update, position, batches[position])
            loss_sum = loss_sum + more_loss
            weight = weight + more_weight
        with torch.no_grad():
            grad_norm, skipped = self._step(loss_sum, weight, lr)
            if self._ema is not None:
                self._ema.update(update, skipped=skipped)
            if self.loss_scale is not None:
                self.loss_scale.update(skipped)
        return UpdateResult(loss_sum, weight, grad_norm)

    def _backward(self, update: int, position: int, batch: Batch) -> tuple[Tensor, Tensor]:
        seed_torch(torch_seed(self._seed, update, position))
        if not self._on_cpu:
            batch = batch.to(self._device)
        if self._full_precision:
            output = self._recipe.step(self._model, batch)
        else:
            with self._autocast:
                output = self._recipe.step(self._model, batch)
        loss = output.loss_sum
        if self.loss_scale is not None:
            (loss * self.loss_scale.value).backward()  # type: ignore[no-untyped-call]
        else:
            loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach(), output.weight

    def _step(self, loss_sum: Tensor, weight: Tensor, lr: float) -> tuple[Tensor, Tensor]:
        grads = self._optimizer.gradients()
        divisor = weight if self.loss_scale is None else weight * self.loss_scale.value
        grad_norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads))) / divisor
        # x - x is 0 for a finite x and NaN for any other; NaN != 0 holds.
        both = grad_norm + loss_sum
        skipped = (both - both).ne_(0)
        if self._clip_norm:
            divisor = (grad_norm / self._clip_norm).clamp_(min=1.0).mul_(divisor)
        self._optimizer.step(lr=lr, divisor=divisor, skipped=skipped)
        return grad_norm, skipped
