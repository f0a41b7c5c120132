"""Vector quantisation with a codebook that follows the encoder as a moving average.

The codebook is no parameter: it is the ratio of two moving averages, of how often each code was nearest and of
the sum of the vectors it was nearest to (van den Oord et al., 2017, appendix A.1). Both come from sums over a
whole update. A plain average collapses, since codes that are never nearest never move: so it starts at given
centroids, and codes that fall out of use are moved beside those that are used most (Linde et al., 1980: a
code is split). Letters: N places (any leading shape), K codes, D dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.codec.quantised import Quantised, in_full_precision

# Laplace smoothing of counts.
_EPSILON = 1e-5
_BLOCK = 16_384
# Buffers that only training needs.
MOVING = frozenset({"use_K", "sum_KD", "started"})


@dataclass(frozen=True, slots=True)
class CodebookState:
    """What an update changes: codes (K, D), moving averages of counts (K,) and of sums (K, D)."""

    codes_KD: Tensor
    use_K: Tensor
    sum_KD: Tensor

    def tensors(self) -> list[Tensor]:
        """Return the three."""
        return [self.codes_KD, self.use_K, self.sum_KD]


class Codebook(nn.Module):
    """Chooses the nearest of K codes.

    Attributes:
        started: () 1 once the codes are centroids, or those of a trained model.

    Args:
        codes: K.
        dim: D.
    """

    codes_KD: Tensor
    use_K: Tensor
    sum_KD: Tensor
    started: Tensor

    def __init__(self, codes: int, dim: int) -> None:
        super().__init__()
        self.dim, self.num_codes = dim, codes
        drawn_KD = torch.randn(codes, dim)
        self.register_buffer("codes_KD", drawn_KD)
        self.register_buffer("use_K", torch.ones(codes))
        self.register_buffer("sum_KD", drawn_KD.clone())
        self.register_buffer("started", torch.zeros((), dtype=torch.int64))

    @property
    def state(self) -> CodebookState:
        """The tensors that updates move (no copies)."""
        return CodebookState(self.codes_KD, self.use_K, self.sum_KD)

    def forward(self, z_ND: Tensor) -> Quantised:
        """Quantise; the gradient of the codes reaches the input unchanged."""
        with torch.autocast(z_ND.device.type, enabled=False):
            z_ND = in_full_precision(z_ND)
            index_N = self._nearest(z_ND.detach().flatten(0, -2)).view(z_ND.shape[:-1])
            codes_ND = self.codes_KD[index_N]
            distance_N = (z_ND - codes_ND).square().mean(dim=-1)
            vectors_ND = z_ND + (codes_ND - z_ND).detach()
        return Quantised(vectors_ND, index_N, distance_N)

    def indices_to_codes(self, index_N: Tensor) -> Tensor:
        """Return (N, D) float32."""
        return self.codes_KD[index_N]

    def start_at(self, centroids_KD: Tensor, share_K: Tensor) -> None:
        """Start at centroids, of which each has a share of the vectors; shares sum to 1."""
        use_K = share_K.to(self.use_K) * self.num_codes
        self.codes_KD.copy_(centroids_KD)
        self.use_K.copy_(use_K)
        self.sum_KD.copy_(self.codes_KD * use_K[:, None])
        self.started.fill_(1)

    def _nearest(self, z_ND: Tensor) -> Tensor:
        square_K = self.codes_KD.square().sum(dim=1)
        found = [
            torch.addmm(square_K, part_ND, self.codes_KD.T, alpha=-2).argmin(dim=1)
            for part_ND in torch.split(z_ND, _BLOCK)
        ]
        return torch.cat(found) if found else z_ND.new_zeros(0, dtype=torch.int64)


def moved(state: CodebookState, count_K: Tensor, *, sum_KD: Tensor, decay: float) -> CodebookState:
    """Return a codebook after an update.

    Args:
        state: before it.
        count_K: how many vectors of the update each code was nearest to.
        sum_KD: their sum.
        decay: of the moving averages.
    """
    use_K = state.use_K * decay + count_K * (1 - decay)
    total_KD = state.sum_KD * decay + sum_KD * (1 - decay)
    total = use_K.sum()
    smooth_K = (use_K + _EPSILON) / (total + len(use_K) * _EPSILON) * total
    return CodebookState(total_KD / smooth_K[:, None], use_K, total_KD)


def revived(
    state: CodebookState, *, below: float, noise_PD: Tensor, spread: Tensor
) -> CodebookState:
    """Return a codebook in which codes out of use share the vectors of those that are used most.

    The least used code goes to the most used one, the next to the next, while the former is used less
    than `below` times the mean and the latter more than the mean. A pair lies on both sides of the code that was used,
    and each has half of its use.

    Args:
        state: before.
        below: use, relative to the mean over all codes, under which a code is out of use.
        noise_PD: normal noise for P = K // 2 pairs.
        spread: () typical distance of a vector to its code, in each dimension.
    """
    use_K = state.use_K
    order_K = torch.argsort(use_K, descending=True, stable=True)
    pairs, mean = len(noise_PD), use_K.mean()
    used_P, unused_P = order_K[:pairs], order_K.flip(0)[:pairs]
    splits_P = (use_K[unused_P] < below * mean) & (use_K[used_P] > mean)
    half_P = use_K[used_P] / 2
    step_PD = noise_PD * spread / 2
    codes_KD, new_use_K = state.codes_KD.clone(), use_K.clone()
    for side, places_P in ((1, used_P), (-1, unused_P)):
        code_PD = state.codes_KD[used_P] + side * step_PD
        codes_KD[places_P] = torch.where(splits_P[:, None], code_PD, state.codes_KD[places_P])
        new_use_K[places_P] = torch.where(splits_P, half_P, use_K[places_P])
    changed_K = new_use_K != use_K
    sum_KD = torch.where(changed_K[:, None], codes_KD * new_use_K[:, None], state.sum_KD)
    return CodebookState(codes_KD, new_use_K, sum_KD)
