"""AdamW with moments in 8 bits, by the block-wise kernel of bitsandbytes (Dettmers et al., 2022).

Owns which parameters have such moments, and their state; small tensors, whose moments take no memory to speak of,
keep theirs in 32 bits, by `FusedAdamW`. Unlike that kernel, this one takes its step count from the host, so each
step waits for the device once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from engine.config.errors import ConfigError, Problem
from engine.config.sections import OptimizerConfig
from engine.measuring.required import MISSING_EIGHT_BIT
from engine.recipes.weights import ParameterGroup
from engine.training.optimizer import FusedAdamW
from engine.training.parameter_groups import without_decay

# As in bitsandbytes: smaller tensors keep moments in 32 bits, and larger ones have a scale for each block.
LEAST_ELEMENTS = 4_096
_BLOCK = 256


def new_optimizer(
    model: nn.Module, config: OptimizerConfig, *, groups: Sequence[ParameterGroup]
) -> FusedAdamW:
    """Return the optimizer that the settings ask for; arguments as `FusedAdamW`.

    Raises:
        ConfigError: when bitsandbytes is asked for and missing.
    """
    kind = EightBitAdamW if config.eight_bit else FusedAdamW
    return kind(model, config, groups=groups)


class EightBitAdamW(FusedAdamW):
    """AdamW over all trainable parameters of a model; arguments as `FusedAdamW`.

    Raises:
        ConfigError: when bitsandbytes is missing.
    """

    def __init__(
        self, model: nn.Module, config: OptimizerConfig, *, groups: Sequence[ParameterGroup] = ()
    ) -> None:
        functional = _functional()
        named = {name: param for name, param in model.named_parameters() if param.requires_grad}
        large = {name for name, param in named.items() if param.numel() >= LEAST_ELEMENTS}
        super().__init__(model, config, groups=groups, left_out=large)
        spared = without_decay(model, config)
        parts = groups or (ParameterGroup("", list(named)),)
        self._large = [
            _LargeGroup(
                part.name,
                {name: named[name] for name in part.parameters if name in large},
                lr_ratio=part.lr_ratio,
                config=config,
                decays=[name not in spared for name in part.parameters if name in large],
                functional=functional,
            )
            for part in parts
            if large.intersection(part.parameters)
        ]

    @torch.no_grad()
    def step(self, *, lr: float, divisor: Tensor, skipped: Tensor) -> None:
        """Update the parameters in place; gradients of large tensors are divided in place."""
        super().step(lr=lr, divisor=divisor, skipped=skipped)
        if bool(skipped):
            return
        for group in self._large:
            group.update(lr, divisor)

    def state_dict(self) -> dict[str, Tensor]:
        """Return what `FusedAdamW` does, and of large parameters codes, scales and `step8.<group>` (no copies)."""
        state = super().state_dict()
        for group in self._large:
            state |= group.state_dict()
        return state


class _LargeGroup:
    """Large parameters with one learning rate and one step count."""

    def __init__(
        self,
        name: str,
        named: Mapping[str, nn.Parameter],
        *,
        lr_ratio: float,
        config: OptimizerConfig,
        decays: Sequence[bool],
        functional: Any,
    ) -> None:
        self._name = f"step8.{name}" if name else "step8"
        self._named = dict(named)
        self._lr_ratio = lr_ratio
        self._config = config
        self._decays = list(decays)
        self._update = functional.optimizer_update_8bit_blockwise
        device = next(iter(named.values())).device
        self._maps = [
            functional.create_dynamic_map(signed=signed).to(device) for signed in (True, False)
        ]
        self._states = {key: _State.of(param) for key, param in named.items()}
        # On the host: the kernel takes it as a number.
        self._step = torch.zeros((), dtype=torch.float32)

    def update(self, lr: float, divisor: Tensor) -> None:
        """Update the parameters that have a gradient; a group without any stands still."""
        places = [
            (param, self._states[key], decays)
            for (key, param), decays in zip(self._named.items(), self._decays, strict=True)
            if param.grad is not None
        ]
        if not places:
            return
        self._step.add_(1.0)
        config, step = self._config, int(self._step)
        for param, state, decays in places:
            assert param.grad is not None
            gradient = param.grad.div_(divisor)
            self._update(
                "adam", gradient, param, *state.moments, config.beta1, config.beta2, 0.0, 0.0, config.eps,
                step, lr * self._lr_ratio, *self._maps, *state.scales,
                weight_decay=config.weight_decay if decays else 0.0,
            )  # fmt: skip

    def state_dict(self) -> dict[str, Tensor]:
        """Return codes and scales of both moments of each parameter, and the step count."""
        state = {self._name: self._step}
        for key, one in self._states.items():
            state |= {f"{kind}.{key}": tensor for kind, tensor in one.tensors()}
        return state


class _State:
    """The moments of one parameter: a code for each element, a scale for each block of 256."""

    def __init__(self, moments: Sequence[Tensor], scales: Sequence[Tensor]) -> None:
        self.moments = moments
        self.scales = scales

    @classmethod
    def of(cls, param: nn.Parameter) -> _State:
        """Return moments of 0."""
        blocks = -(-param.numel() // _BLOCK)
        return cls(
            [torch.zeros_like(param, dtype=torch.uint8) for _ in range(2)],
            [torch.zeros(blocks, dtype=torch.float32, device=param.device) for _ in range(2)],
        )

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Yield each tensor with its kind."""
        kinds = ("exp_avg_code", "exp_avg_sq_code", "exp_avg_scale", "exp_avg_sq_scale")
        yield from zip(kinds, (*self.moments, *self.scales), strict=True)


def _functional() -> Any:
    """Return the module of the kernels.

    Raises:
        ConfigError: when it is missing or broken.
    """
    try:
        from bitsandbytes import functional
    except (ImportError, OSError, RuntimeError) as error:
        reason = (
            MISSING_EIGHT_BIT
            if isinstance(error, ModuleNotFoundError)
            else f"bitsandbytes can't be used: {error}"
        )
        raise ConfigError([Problem("optimizer.eight_bit", reason)]) from None
    return functional
