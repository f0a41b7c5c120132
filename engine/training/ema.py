"""The exponential moving average of the weights.

Owns the averaged tensors and swapping them with the weights. The decay at each update is a pure
function in `engine.training.schedules`, so the only state here is the average itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from engine.config.counters import UpdateSize
from engine.config.sections import EmaConfig
from engine.gated import lerp_unless
from engine.training.schedules import ema_decay, ema_restart


class Ema:
    """An average of the parameters of a model; buffers are not averaged."""

    def __init__(self, model: nn.Module, config: EmaConfig, size: UpdateSize) -> None:
        named = dict(model.named_parameters())
        self._names = list(named)
        self._params = [param.detach() for param in named.values()]
        self._holders = list(named.values())
        self._averages = [param.clone() for param in self._params]
        self._config = config
        self._size = size
        self._restart = ema_restart(config, size)

    @torch.no_grad()
    def update(self, update: int, *, skipped: Tensor, one_by_one: bool = False) -> None:
        """Update the average with the weights after update number `update`, unless it was skipped.

        Running out of memory leaves the average unchanged, except with `one_by_one`.

        Args:
            update: number of the update, from 1.
            skipped: () 1.0 where the update was not finite, else 0.0, on the device of the weights.
            one_by_one: allocate for one parameter at a time instead of all; slower on a GPU.
        """
        if update == self._restart:
            torch._foreach_copy_(self._averages, self._params)
            return
        share = 1.0 - ema_decay(self._config, update, size=self._size)
        lerp_unless(
            skipped, self._averages, towards=self._params, share=share, one_by_one=one_by_one
        )

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Put the average into the model; restore the weights on exit, also after an error."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def _exchange(self) -> None:
        for index, holder in enumerate(self._holders):
            holder.data, self._averages[index] = self._averages[index], holder.data

    def state_dict(self) -> dict[str, Tensor]:
        """Return the averages by parameter name (no copies)."""
        return dict(zip(self._names, self._averages, strict=True))

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Load the averages from `state`.

        Raises:
            ValueError: when its parameter names differ from the model's.
        """
        if set(state) != set(self._names):
            raise ValueError(
                f"the EMA has different parameters from the model: {set(state) ^ set(self._names)}"
            )
        for name, average in zip(self._names, self._averages, strict=True):
            average.copy_(state[name])
