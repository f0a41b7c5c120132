"""The audio U-Net: waveform in, one waveform for each source out.

Letters in names: B batch, S sources, C channels, K copies, T samples, N outputs (S * C).
"""

from __future__ import annotations

from torch import Tensor

from models.configs import AudioUNetConfig
from models.layers.blocks import pad_edges
from models.unet import Shape, UNet


class AudioUNet(UNet):
    """U-Net on the waveform that takes any length and keeps it.

    With `prediction = "difference"` the output is added to the input for each source; a fresh
    network of that kind returns nearly its input. With `copies` the input is several versions of
    the mixture, one after the other in the channels, and what is added to is their mean.
    """

    def __init__(
        self, config: AudioUNetConfig, *, channels: int, sources: int, copies: int = 1
    ) -> None:
        adds_input = config.prediction == "difference"
        shape = Shape(config.width, config.strides, units=config.residual_units, norm=config.norm)
        super().__init__(
            shape, inputs=copies * channels, outputs=sources * channels, quiet=adds_input
        )
        self.hop = config.hop
        self.sources = sources
        self.copies = copies
        self.adds_input = adds_input

    def forward(self, mix_BCT: Tensor) -> Tensor:
        """Return the estimates (B, S, C, T) of a mixture (B, K * C, T), T >= 1."""
        batch, inputs, length = mix_BCT.shape
        padded_BCT = pad_edges(mix_BCT, 0, right=-length % self.hop)
        out_BNT = self.run(padded_BCT)[..., :length]
        out_BSCT = out_BNT.reshape(batch, self.sources, -1, length)
        if not self.adds_input:
            return out_BSCT
        copies_BKCT = mix_BCT.reshape(batch, self.copies, inputs // self.copies, length)
        base_BSCT = copies_BKCT.mean(dim=1, keepdim=True) if self.copies > 1 else copies_BKCT
        return out_BSCT + base_BSCT
