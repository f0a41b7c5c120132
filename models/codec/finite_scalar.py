"""Finite scalar quantisation (Mentzer et al., 2023): each dimension is rounded to one of a few levels.

No codebook, no auxiliary loss. Computed in float32 whatever the autocast. Letters: N places (any leading
shape), D dimensions, L_i levels of dimension i, K = product of all L_i codes.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn

from models.codec.quantised import Quantised, in_full_precision

# Keeps the outermost levels inside the range of tanh.
_EPSILON = 1e-3


class FiniteScalarQuantiser(nn.Module):
    """Rounds D numbers to `levels`; has no parameters.

    Args:
        levels: L_i of each dimension, 2 or more.
    """

    _half_D: Tensor
    _offset_D: Tensor
    _shift_D: Tensor
    _middle_D: Tensor
    _levels_D: Tensor
    _place_D: Tensor

    def __init__(self, levels: Sequence[int]) -> None:
        super().__init__()
        self.dim, self.num_codes = len(levels), prod(levels)
        levels_D = torch.tensor(levels)
        half_D = (levels_D - 1) * (1 + _EPSILON) / 2
        # An even number of levels has none in the middle, so the range is moved by half a level.
        offset_D = torch.where(levels_D % 2 == 0, 0.5, 0.0)
        place_D = torch.tensor([prod(levels[:i]) for i in range(len(levels))])
        for name, tensor_D in (
            ("_half_D", half_D), ("_offset_D", offset_D), ("_shift_D", torch.atanh(offset_D / half_D)),
            ("_middle_D", levels_D // 2), ("_levels_D", levels_D), ("_place_D", place_D),
        ):  # fmt: skip
            self.register_buffer(name, tensor_D, persistent=False)

    def forward(self, z_ND: Tensor) -> Quantised:
        """Quantise; gradients pass the rounding, but not the saturation of tanh."""
        with torch.autocast(z_ND.device.type, enabled=False):
            bounded_ND = (
                torch.tanh(in_full_precision(z_ND) + self._shift_D) * self._half_D - self._offset_D
            )
            # The difference is exact, so the codes are exactly those of their indices.
            level_ND = bounded_ND + (bounded_ND.round() - bounded_ND).detach()
            rounded_ND = bounded_ND.detach().round()
            vectors_ND = level_ND / self._middle_D
        index_N = self._index_of(rounded_ND)
        return Quantised(vectors_ND, index_N, torch.zeros_like(index_N, dtype=torch.float32))

    def codes_to_indices(self, codes_ND: Tensor) -> Tensor:
        """Return (N,) int64 of codes, exact."""
        return self._index_of((in_full_precision(codes_ND) * self._middle_D).round())

    def indices_to_codes(self, index_N: Tensor) -> Tensor:
        """Return (N, D) float32."""
        digit_ND = index_N[..., None] // self._place_D % self._levels_D
        return (digit_ND - self._middle_D).to(self._half_D) / self._middle_D

    def _index_of(self, level_ND: Tensor) -> Tensor:
        """Return (N,) of levels around 0."""
        return ((level_ND.long() + self._middle_D) * self._place_D).sum(dim=-1)
