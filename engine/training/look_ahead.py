"""The sums over a whole update that a recipe asks for before its first step (`LooksAhead`).

Owns their layout and their sum over ranks; `engine.training.updates` looks.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from engine.recipes.base import LooksAhead
from engine.training.named_sums import NamedSums
from engine.training.ranks import Ranks


class LookAhead:
    """The sums, flat and by name."""

    def __init__(self, recipe: LooksAhead, ranks: Ranks, *, device: torch.device) -> None:
        self._layout = NamedSums(recipe.ahead_shapes, declared_in="ahead_shapes")
        self._ranks = ranks
        self._device = device

    def zeros(self) -> Tensor:
        """Return the sums (N,) of a rank without items."""
        return torch.zeros(self._layout.size, device=self._device)

    def flatten(self, found: Mapping[str, Tensor]) -> Tensor:
        """Return what `look` found as one vector (N,).

        Raises:
            ValueError: when names or shapes differ from `ahead_shapes`.
        """
        return torch.cat(self._layout.flatten(found))

    def over_ranks(self, own: Tensor | None) -> dict[str, Tensor]:
        """Return the sums over all ranks by name; None: this rank ran out of memory while looking.

        Every rank calls this once per attempt at an update. It waits for no device: that a rank has
        failed reaches the others with the sum of the gradients, and the attempt is repeated.
        """
        return self._layout.unflatten(self._ranks.sum_of(self.zeros() if own is None else own))
