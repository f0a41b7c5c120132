"""torchaudio's Conv-TasNet (Luo and Mesgarani, 2019) behind the interface of this folder.

Letters in names: B batch, S sources, C channels, T samples.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from models.configs import ConvTasNetConfig


class ConvTasNet(nn.Module):
    """Conv-TasNet that takes any length, and each channel of a mixture by itself."""

    def __init__(self, config: ConvTasNetConfig, *, sources: int) -> None:
        super().__init__()
        from torchaudio.models import ConvTasNet as Network  # slow to import, seldom needed

        self.hop = config.kernel_size // 2
        self.network = Network(
            num_sources=sources,
            enc_kernel_size=config.kernel_size,
            enc_num_feats=config.features,
            msk_kernel_size=config.mask_kernel_size,
            msk_num_feats=config.mask_features,
            msk_num_hidden_feats=config.mask_hidden,
            msk_num_layers=config.mask_layers,
            msk_num_stacks=config.mask_stacks,
            msk_activate=config.mask_activation,
        )
        _centre_kernels(self.network.mask_generator)

    def forward(self, mix_BCT: Tensor) -> Tensor:
        """Return the estimates (B, S, C, T) of a mixture (B, C, T), T >= 1."""
        batch, channels, length = mix_BCT.shape
        padded_BCT = F.pad(mix_BCT, (0, -length % self.hop))
        est_NST = self.network(padded_BCT.reshape(batch * channels, 1, -1))[..., :length]
        est_BCST: Tensor = est_NST.reshape(batch, channels, -1, length)
        return est_BCST.transpose(1, 2)


def _centre_kernels(network: nn.Module) -> None:
    """Pad the dilated convolutions on both sides by half their reach.

    torchaudio pads by the dilation, which keeps the length for kernels of 3 only.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv1d):
            (kernel,), (dilation,) = module.kernel_size, module.dilation
            module.padding = (dilation * (kernel - 1) // 2,)
