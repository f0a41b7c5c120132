"""AdamW in one fused kernel, gated by a flag that stays on the device.

Decoupled weight decay after Loshchilov and Hutter (2019), by the kernel behind `torch.optim.AdamW`.
That class is not used: constructing it imports torch's compiler, which delays the start of every run
by seconds, and each of its steps spends twenty microseconds on bookkeeping.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from engine.config.sections import OptimizerConfig


class FusedAdamW:
    """AdamW over all trainable parameters of a model; one step count for all of them."""

    def __init__(self, model: nn.Module, config: OptimizerConfig) -> None:
        named = {name: param for name, param in model.named_parameters() if param.requires_grad}
        self.params = list(named.values())
        self._names = list(named)
        self._exp_avgs = [torch.zeros_like(param) for param in self.params]
        self._exp_avg_sqs = [torch.zeros_like(param) for param in self.params]
        self._step = torch.zeros((), dtype=torch.float32, device=self.params[0].device)
        self._config = config

    def clear_gradients(self) -> None:
        """Drop all gradients."""
        for param in self.params:
            param.grad = None

    def gradients(self) -> list[Tensor]:
        """Return the gradients of the parameters that have one."""
        return [param.grad for param in self.params if param.grad is not None]

    @torch.no_grad()
    def step(self, *, lr: float, divisor: Tensor, skipped: Tensor) -> None:
        """Update the parameters in place; allocates nothing when both flags are float32.

        Args:
            lr: learning rate of this step.
            divisor: () what the gradients are divided by.
            skipped: () 1.0 to leave parameters, moments and step count unchanged, else 0.0.
        """
        params, grads, exp_avgs, exp_avg_sqs = self._with_gradients()
        # The kernel takes both in float32 only, whatever the type of the weights.
        divisor, skipped = divisor.float(), skipped.float()
        self._step.add_(1.0)
        torch._fused_adamw_(
            params,
            grads,
            exp_avgs,
            exp_avg_sqs,
            [],
            [self._step] * len(params),
            amsgrad=False,
            lr=lr,
            beta1=self._config.beta1,
            beta2=self._config.beta2,
            weight_decay=self._config.weight_decay,
            eps=self._config.eps,
            maximize=False,
            grad_scale=divisor,
            found_inf=skipped,
        )
        self._step.sub_(skipped)

    def _with_gradients(self) -> tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor]]:
        grads = self.gradients()
        if len(grads) == len(self.params):
            return list(self.params), grads, self._exp_avgs, self._exp_avg_sqs
        places = [i for i, param in enumerate(self.params) if param.grad is not None]
        return (
            [self.params[i] for i in places],
            grads,
            [self._exp_avgs[i] for i in places],
            [self._exp_avg_sqs[i] for i in places],
        )

    def state_dict(self) -> dict[str, Tensor]:
        """Return `exp_avg.<parameter>`, `exp_avg_sq.<parameter>` and `step` (no copies)."""
        state = {f"exp_avg.{n}": t for n, t in zip(self._names, self._exp_avgs, strict=True)}
        state |= {f"exp_avg_sq.{n}": t for n, t in zip(self._names, self._exp_avg_sqs, strict=True)}
        return {**state, "step": self._step}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Load moments and step count from `state`.

        Raises:
            ValueError: when it belongs to different parameters.
        """
        own = self.state_dict()
        if set(own) != set(state):
            odd = sorted(set(own) ^ set(state))
            raise ValueError(
                f"the optimizer state has different parameters from the model: {', '.join(odd[:4])}"
            )
        for name, tensor in own.items():
            tensor.copy_(state[name])
