"""What the whole engine calls a split of the data and a batch of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Split = Literal["train", "valid"]


@dataclass(frozen=True, slots=True)
class Batch:
    """A collated batch: named tensors, first dimension B.

    Attributes:
        lost: for each item that could not be read and is missing here, why.
    """

    tensors: dict[str, Tensor]
    lost: tuple[str, ...] = ()

    def to(self, device: torch.device) -> Batch:
        """Move every tensor, without waiting where the memory is pinned."""
        return Batch({name: t.to(device, non_blocking=True) for name, t in self.tensors.items()})
