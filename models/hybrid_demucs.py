"""torchaudio's Hybrid Demucs (Defossez, 2021) behind the interface of this folder.

Letters in names: B batch, S sources, C channels, T samples.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from models.configs import HybridDemucsConfig

# Window of the transform and number of levels, as in torchaudio's hdemucs_low, _medium and _high.
_SIZES = {"low": (1024, 5), "medium": (2048, 6), "high": (4096, 6)}


class HybridDemucs(nn.Module):
    """Hybrid Demucs that takes any length: short ones are put between zeros."""

    def __init__(self, config: HybridDemucsConfig, *, channels: int, sources: int) -> None:
        super().__init__()
        from torchaudio.models import HDemucs as Network  # slow to import, seldom needed

        n_fft, depth = _SIZES[config.resolution]
        self.shortest = n_fft
        self.network = Network(
            sources=[str(number) for number in range(sources)],
            audio_channels=channels,
            channels=config.features,
            nfft=n_fft,
            depth=depth,
        )

    def forward(self, mix_BCT: Tensor) -> Tensor:
        """Return the estimates (B, S, C, T) of a mixture (B, C, T), T >= 1."""
        length = mix_BCT.shape[-1]
        missing = max(0, self.shortest - length)
        est_BSCT: Tensor = self.network(F.pad(mix_BCT, (0, missing)))
        return est_BSCT[..., :length]
