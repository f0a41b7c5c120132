"""The body of every U-Net: strided convolutions, transposed convolutions, a 1x1 on each skip.

After the reference network that this project continues (SEANet-like, Tagliasacchi et al. 2020). Owns the
topology for waveforms (`dims` = 1) and spectrograms (`dims` = 2); what goes in and comes out is the
business of the networks built on it. Letters in names: B batch, C channels, N outputs, x the sizes
of a signal.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn

from models.layers.blocks import (
    ELU_GAIN,
    SUM_GAIN,
    Dims,
    DownConv,
    Norm,
    ResidualUnit,
    SameConv,
    UpConv,
)

EDGE_KERNEL = 7
START_GAIN = 0.01


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a U: `units` residual units a level, dilated by powers of `dilation_base`."""

    width: int
    strides: tuple[int, ...]
    units: int
    norm: Norm
    dims: Dims = 1
    dilation_base: int = 3


class UNet(nn.Module):
    """The U: (B, inputs, x) to (B, outputs, x), x multiples of the product of the strides.

    A `quiet` network starts with an output of about a hundredth of its input.
    """

    def __init__(self, shape: Shape, *, inputs: int, outputs: int, quiet: bool) -> None:
        super().__init__()
        widths = [shape.width * 2**level for level in range(len(shape.strides) + 1)]
        levels = list(zip(pairwise(widths), shape.strides, strict=True))
        side_norm: Norm = "weight" if shape.norm == "weight" else "none"
        side = partial(SameConv, norm=side_norm, dims=shape.dims)

        self.stem = _wide_conv(shape, inputs, c_out=widths[0])
        self.down = nn.ModuleList(
            _down_block(shape, narrow, wide=wide, stride=stride)
            for (narrow, wide), stride in levels
        )
        self.middle = nn.Sequential(
            _wide_conv(shape, widths[-1], c_out=widths[-1]),
            _wide_conv(shape, widths[-1], c_out=widths[-1], gain=ELU_GAIN * SUM_GAIN),
        )
        self.up = nn.ModuleList(
            _up_block(shape, wide, narrow=narrow, stride=stride)
            for (narrow, wide), stride in reversed(levels)
        )
        self.skips = nn.ModuleList(side(width, width, gain=SUM_GAIN) for width in widths)
        self.head = side(widths[0], outputs, kernel=EDGE_KERNEL)
        self.direct = side(inputs, outputs)
        if quiet:
            for layer in (self.head, self.direct):
                _soften(layer, START_GAIN)

    def run(self, x_BCx: Tensor) -> Tensor:
        """Return (B, outputs, x)."""
        levels = [self.stem(x_BCx)]
        for block in self.down:
            levels.append(block(levels[-1]))
        skipped = [skip(level) for skip, level in zip(self.skips, levels, strict=True)]
        y_BCx = self.middle(levels[-1]) + skipped.pop()
        for block in self.up:
            y_BCx = block(y_BCx) + skipped.pop()
        out_BNx: Tensor = self.head(y_BCx) + self.direct(x_BCx)
        return out_BNx


def _wide_conv(shape: Shape, c_in: int, *, c_out: int, gain: float = ELU_GAIN) -> nn.Module:
    conv = SameConv(c_in, c_out, kernel=EDGE_KERNEL, norm=shape.norm, gain=gain, dims=shape.dims)
    return nn.Sequential(conv, nn.ELU())


def _units(shape: Shape, channels: int) -> list[nn.Module]:
    dilations = [shape.dilation_base**index for index in range(shape.units)]
    return [
        ResidualUnit(channels, dilation=dilation, norm=shape.norm, dims=shape.dims)
        for dilation in dilations
    ]


def _down_block(shape: Shape, narrow: int, *, wide: int, stride: int) -> nn.Module:
    down = DownConv(narrow, wide, stride=stride, norm=shape.norm, dims=shape.dims)
    return nn.Sequential(*_units(shape, narrow), down, nn.ELU())


def _up_block(shape: Shape, wide: int, *, narrow: int, stride: int) -> nn.Module:
    up = UpConv(wide, narrow, stride=stride, norm=shape.norm, dims=shape.dims)
    return nn.Sequential(up, nn.ELU(), *_units(shape, narrow))


@torch.no_grad()
def _soften(layer: SameConv, gain: float) -> None:
    """Scale the output of a fresh layer; under weight norm only the sizes, not the directions."""
    parameters = dict(layer.conv.named_parameters())
    sizes = parameters.get("parametrizations.weight.original0", parameters.get("weight"))
    assert sizes is not None
    sizes.mul_(gain)
