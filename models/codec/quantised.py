"""What the quantisers of the codec have in common. Letters: N places (any leading shape), D dimensions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Quantised:
    """What a quantiser makes of the outputs of an encoder.

    Attributes:
        vectors_ND: the chosen codes, float32; their gradient reaches the input unchanged.
        index_N: int64, which codes were chosen.
        distance_N: mean square over D of the distance of each input to its code, with the gradient of the
            input alone: the commitment. 0 for quantisers that need none.
    """

    vectors_ND: Tensor
    index_N: Tensor
    distance_N: Tensor


def in_full_precision(x: Tensor) -> Tensor:
    """Return a tensor in float32 at least, whatever an autocast made of it."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
