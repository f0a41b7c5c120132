"""The encoder of reference clips: what a voice sounds like, as one vector for each clip.

As TorToiSe's conditioning encoder: a 1x1 convolution, attention over all frames, the first of them. Letters:
B clips, F mel bands, L frames, D channels, H heads, E channels of a head.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention


class AttentionBlock(nn.Module):
    """Attention over all frames of a clip, added to its input; fresh ones add nothing."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self._heads = heads
        self.norm = nn.GroupNorm(_num_groups(dim), dim)
        self.qkv = nn.Conv1d(dim, 3 * dim, 1)
        self.out = nn.Conv1d(dim, dim, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def forward(self, x_BDL: Tensor) -> Tensor:
        """Return (B, D, L)."""
        batch, dim, frames = x_BDL.shape
        # Query, key and value of a head lie beside each other, as in the published weights.
        qkv = self.qkv(self.norm(x_BDL)).view(batch, self._heads, 3 * dim // self._heads, frames)
        q, k, v = (part.transpose(2, 3) for part in qkv.chunk(3, dim=2))
        y_BHLE = scaled_dot_product_attention(q, k, v)
        added: Tensor = self.out(y_BHLE.transpose(2, 3).reshape(batch, dim, frames))
        return x_BDL + added


class ReferenceEncoder(nn.Module):
    """Maps log-mel frames of clips to vectors; the normalisation of the bands is a part of it."""

    mean_F: Tensor
    std_F: Tensor

    def __init__(self, mel_bands: int, *, dim: int, layers: int, heads: int) -> None:
        super().__init__()
        self.register_buffer("mean_F", torch.zeros(mel_bands))
        self.register_buffer("std_F", torch.ones(mel_bands))
        self.start = nn.Conv1d(mel_bands, dim, 1)
        self.blocks = nn.Sequential(*(AttentionBlock(dim, heads) for _ in range(layers)))

    def forward(self, mel_BFL: Tensor) -> Tensor:
        """Return (B, D) of whole clips without padding."""
        normal_BFL = (mel_BFL - self.mean_F[:, None]) / self.std_F[:, None]
        return self.blocks(self.start(normal_BFL))[:, :, 0]  # type: ignore[no-any-return]


def _num_groups(dim: int) -> int:
    """Return the groups of the norm, as in the published encoder."""
    groups = 8 if dim <= 16 else 16 if dim <= 64 else 32
    while dim % groups:
        groups //= 2
    return groups
