"""The audio U-Net: waveform in, one waveform for each source out.

Strided convolutions down, transposed convolutions up, 1x1 convolutions on every skip, after the
reference network of this laboratory (SEANet-like, Tagliasacchi et al. 2020). Letters in names:
B batch, S sources, C channels, T samples.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from models.blocks import (
    ELU_GAIN,
    SUM_GAIN,
    DownConv,
    Norm,
    ResidualUnit,
    SameConv,
    UpConv,
    pad_edges,
)
from models.configs import AudioUNetConfig

EDGE_KERNEL = 7
DILATION_BASE = 3
START_GAIN = 0.01


class AudioUNet(nn.Module):
    """U-Net on the waveform that takes any length and keeps it.

    With `prediction = "difference"` the output is added to the input for each source; a fresh
    network of that kind returns nearly its input.
    """

    def __init__(self, config: AudioUNetConfig, *, channels: int, sources: int) -> None:
        super().__init__()
        self.hop = config.hop
        self.sources = sources
        self.adds_input = config.prediction == "difference"
        widths = [config.width * 2**level for level in range(len(config.strides) + 1)]
        norm = config.norm
        outputs = sources * channels

        self.stem = _wide_conv(channels, widths[0], norm=norm)
        levels = list(zip(pairwise(widths), config.strides, strict=True))
        units = config.residual_units
        self.down = nn.ModuleList(
            _down_block(narrow, wide, stride=stride, units=units, norm=norm)
            for (narrow, wide), stride in levels
        )
        self.middle = nn.Sequential(
            _wide_conv(widths[-1], widths[-1], norm=norm),
            _wide_conv(widths[-1], widths[-1], norm=norm, gain=ELU_GAIN * SUM_GAIN),
        )
        self.up = nn.ModuleList(
            _up_block(wide, narrow, stride=stride, units=units, norm=norm)
            for (narrow, wide), stride in reversed(levels)
        )
        side_norm: Norm = "weight" if norm == "weight" else "none"
        self.skips = nn.ModuleList(
            SameConv(width, width, norm=side_norm, gain=SUM_GAIN) for width in widths
        )
        self.head = SameConv(widths[0], outputs, kernel=EDGE_KERNEL, norm=side_norm)
        self.direct = SameConv(channels, outputs, norm=side_norm)
        if self.adds_input:
            for layer in (self.head, self.direct):
                _soften(layer, START_GAIN)

    def forward(self, mix_BCT: Tensor) -> Tensor:
        """Return the estimates (B, S, C, T) of a mixture (B, C, T), T >= 1."""
        batch, channels, length = mix_BCT.shape
        padded_BCT = pad_edges(mix_BCT, 0, -length % self.hop)
        out_BNT = self._network(padded_BCT)[..., :length]
        out_BSCT = out_BNT.reshape(batch, self.sources, channels, length)
        return out_BSCT + mix_BCT.unsqueeze(1) if self.adds_input else out_BSCT

    def _network(self, x_BCT: Tensor) -> Tensor:
        levels = [self.stem(x_BCT)]
        for block in self.down:
            levels.append(block(levels[-1]))
        skipped = [skip(level) for skip, level in zip(self.skips, levels, strict=True)]
        y_BCT = self.middle(levels[-1]) + skipped.pop()
        for block in self.up:
            y_BCT = block(y_BCT) + skipped.pop()
        out_BNT: Tensor = self.head(y_BCT) + self.direct(x_BCT)
        return out_BNT


def _wide_conv(c_in: int, c_out: int, *, norm: Norm, gain: float = ELU_GAIN) -> nn.Module:
    conv = SameConv(c_in, c_out, kernel=EDGE_KERNEL, norm=norm, gain=gain)
    return nn.Sequential(conv, nn.ELU())


def _units(channels: int, units: int, norm: Norm) -> list[nn.Module]:
    dilations = [DILATION_BASE**index for index in range(units)]
    return [ResidualUnit(channels, dilation=dilation, norm=norm) for dilation in dilations]


def _down_block(narrow: int, wide: int, *, stride: int, units: int, norm: Norm) -> nn.Module:
    down = DownConv(narrow, wide, stride=stride, norm=norm)
    return nn.Sequential(*_units(narrow, units, norm), down, nn.ELU())


def _up_block(wide: int, narrow: int, *, stride: int, units: int, norm: Norm) -> nn.Module:
    up = UpConv(wide, narrow, stride=stride, norm=norm)
    return nn.Sequential(up, nn.ELU(), *_units(narrow, units, norm))


@torch.no_grad()
def _soften(layer: SameConv, gain: float) -> None:
    """Scale the output of a fresh layer; under weight norm only the sizes, not the directions."""
    parameters = dict(layer.conv.named_parameters())
    sizes = parameters.get("parametrizations.weight.original0", parameters.get("weight"))
    assert sizes is not None
    sizes.mul_(gain)
