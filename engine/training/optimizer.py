"""AdamW in one fused kernel, gated by a flag that stays on the device.

Decoupled weight decay after Loshchilov and Hutter (2019), by the kernel behind `torch.optim.AdamW`.
That class is not used: constructing it imports torch's compiler, which delays the start of every run
by seconds, and each of its steps spends twenty microseconds on bookkeeping.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from engine.config.sections import OptimizerConfig
from engine.recipes.weights import ParameterGroup
from engine.training.parameter_groups import without_decay


class FusedAdamW:
    """AdamW over all trainable parameters of a model; one step count for each group of them.

    Args:
        model: the network.
        config: rates of decay.
        groups: parameters that are trained alike; empty: all of them are.
        left_out: names of parameters that a subclass updates itself.
    """

    def __init__(
        self,
        model: nn.Module,
        config: OptimizerConfig,
        *,
        groups: Sequence[ParameterGroup] = (),
        left_out: Collection[str] = (),
    ) -> None:
        named = {name: param for name, param in model.named_parameters() if param.requires_grad}
        self.params = list(named.values())
        _require_all(groups, named)
        named = {name: param for name, param in named.items() if name not in left_out}
        spared = without_decay(model, config)
        # A single group has no name, as in checkpoints from before there were any.
        parts = {group.name: (group.parameters, group.lr_ratio) for group in groups}
        self._groups = [
            _Group(name, members, lr_ratio=ratio, config=config, spared=spared)
            for name, (keys, ratio) in (parts or {"": (list(named), 1.0)}).items()
            if (members := {key: named[key] for key in keys if key in named})
        ]
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

        A group without any gradient stands still, its step count, too.

        Args:
            lr: learning rate of this step.
            divisor: () what the gradients are divided by.
            skipped: () 1.0 to leave parameters, moments and step count unchanged, else 0.0.
        """
        # The kernel takes both in float32 only, whatever the type of the weights.
        divisor, skipped = divisor.float(), skipped.float()
        for group in self._groups:
            parts = [part for part in group.with_gradients() if part.params]
            if not parts:
                continue
            group.step.add_(1.0)
            for part in parts:
                torch._fused_adamw_(
                    part.params,
                    part.grads,
                    part.exp_avgs,
                    part.exp_avg_sqs,
                    [],
                    [group.step] * len(part.params),
                    amsgrad=False,
                    lr=lr * group.lr_ratio,
                    beta1=self._config.beta1,
                    beta2=self._config.beta2,
                    weight_decay=part.weight_decay,
                    eps=self._config.eps,
                    maximize=False,
                    grad_scale=divisor,
                    found_inf=skipped,
                )
            group.step.sub_(skipped)

    def state_dict(self) -> dict[str, Tensor]:
        """Return `exp_avg.<parameter>`, `exp_avg_sq.<parameter>` and `step` (no copies).

        Where there are groups, each has its `step.<group>`.
        """
        state: dict[str, Tensor] = {}
        for kind in ("exp_avg", "exp_avg_sq"):
            for group in self._groups:
                state |= {f"{kind}.{name}": tensor for name, tensor in group.moments(kind)}
        return state | {group.step_name: group.step for group in self._groups}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Load moments and step counts from `state`.

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


class _Part(NamedTuple):
    """What one call of the kernel updates."""

    params: list[Tensor]
    grads: list[Tensor]
    exp_avgs: list[Tensor]
    exp_avg_sqs: list[Tensor]
    weight_decay: float


class _Group:
    """Parameters with one learning rate and one step count, and their moments."""

    def __init__(
        self,
        name: str,
        named: Mapping[str, nn.Parameter],
        *,
        lr_ratio: float,
        config: OptimizerConfig,
        spared: Collection[str],
    ) -> None:
        self._config = config
        self._decays = [key not in spared for key in named]
        self.step_name = f"step.{name}" if name else "step"
        self.lr_ratio = lr_ratio
        self._names = list(named)
        self._params = list(named.values())
        self._exp_avgs = [torch.zeros_like(param) for param in self._params]
        self._exp_avg_sqs = [torch.zeros_like(param) for param in self._params]
        self.step = torch.zeros((), dtype=torch.float32, device=self._params[0].device)

    def moments(self, kind: str) -> Iterator[tuple[str, Tensor]]:
        """Yield the name of each parameter with its moment of a kind."""
        moments = self._exp_avgs if kind == "exp_avg" else self._exp_avg_sqs
        yield from zip(self._names, moments, strict=True)

    def with_gradients(self) -> list[_Part]:
        """Return the parameters that have a gradient, by weight decay; a part may be empty."""
        decay, apart = self._config.weight_decay, not all(self._decays)
        grads = [param.grad for param in self._params if param.grad is not None]
        if not apart and len(grads) == len(self._params):
            return [_Part(list(self._params), grads, self._exp_avgs, self._exp_avg_sqs, decay)]
        places = [i for i, param in enumerate(self._params) if param.grad is not None]
        decayed = [i for i in places if self._decays[i]]
        others = [i for i in places if not self._decays[i]]
        return [self._part(decayed, decay), self._part(others, 0.0)]

    def _part(self, places: list[int], weight_decay: float) -> _Part:
        params = [self._params[i] for i in places]
        return _Part(
            list(params),
            [param.grad for param in params if param.grad is not None],
            [self._exp_avgs[i] for i in places],
            [self._exp_avg_sqs[i] for i in places],
            weight_decay,
        )


def _require_all(groups: Sequence[ParameterGroup], named: Mapping[str, nn.Parameter]) -> None:
    """Check that groups hold every parameter once.

    Raises:
        ValueError: naming those that are missing, unknown or in two groups.
    """
    times = Counter(name for group in groups for name in group.parameters)
    odd = sorted({name for name, count in times.items() if count > 1} | (set(times) ^ set(named)))
    if groups and odd:
        raise ValueError(
            "the recipe's groups must hold each trainable parameter once, but these are missing, unknown "
            f"or there twice: {', '.join(odd[:4])}"
        )
