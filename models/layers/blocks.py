"""Building blocks of U-Nets: convolutions that pad by repeating the edge.

Owns padding, normalisation, initial weights and the residual unit. Each block works on waveforms
(`dims` = 1) and on spectrograms (`dims` = 2), with square kernels and strides. Fresh weights keep
the variance of a signal from layer to layer, through ELUs and sums of two branches, so depth neither
fades nor amplifies it. Letters in names: B batch, C channels, T samples (or frames at the block's
level), for spectrograms F bins before them; x stands for either.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

Norm = Literal["none", "weight", "group"]
Dims = Literal[1, 2]
Conv = nn.Conv1d | nn.Conv2d
TransposedConv = nn.ConvTranspose1d | nn.ConvTranspose2d

GROUP_CHANNELS = 16
ELU_GAIN = 1.25
SUM_GAIN = math.sqrt(0.5)
_CONVS: dict[Dims, type[nn.Conv1d] | type[nn.Conv2d]] = {1: nn.Conv1d, 2: nn.Conv2d}
_TRANSPOSED: dict[Dims, type[nn.ConvTranspose1d] | type[nn.ConvTranspose2d]] = {
    1: nn.ConvTranspose1d,
    2: nn.ConvTranspose2d,
}


def pad_edges(x_BCx: Tensor, left: int, *, right: int, dims: int = 1) -> Tensor:
    """Repeat the first sample `left` times and the last one `right` times, along the last `dims`.

    Equal to `F.pad(mode="replicate")`, but its gradient is deterministic on every device.
    """
    for dim in range(-dims, 0):
        last = x_BCx.shape[dim] - 1
        parts = [x_BCx]
        if left:
            parts.insert(0, x_BCx.narrow(dim, 0, 1).expand(_with(x_BCx, dim, size=left)))
        if right:
            parts.append(x_BCx.narrow(dim, last, 1).expand(_with(x_BCx, dim, size=right)))
        x_BCx = torch.cat(parts, dim=dim) if len(parts) > 1 else x_BCx
    return x_BCx


def _with(x: Tensor, dim: int, *, size: int) -> list[int]:
    """Return the shape of `x` with another size along `dim`."""
    shape = list(x.shape)
    shape[dim] = size
    return shape


class SameConv(nn.Module):
    """Convolution whose output is as long as its input, for odd kernels."""

    def __init__(
        self,
        c_in: int,
        c_out: int,
        *,
        kernel: int = 1,
        dilation: int = 1,
        norm: Norm = "none",
        gain: float = 1.0,
        dims: Dims = 1,
    ) -> None:
        super().__init__()
        self.dims = dims
        self.pad = dilation * (kernel - 1) // 2
        conv = _CONVS[dims](c_in, c_out, kernel, dilation=dilation)
        init_weights(conv, fan_in=c_in * kernel**dims, gain=gain)
        self.conv = with_weight_norm(conv, norm)
        self.norm = group_norm(c_out, norm)

    def forward(self, x_BCx: Tensor) -> Tensor:
        """Return (B, c_out, x)."""
        y_BCx: Tensor = self.norm(
            self.conv(pad_edges(x_BCx, self.pad, right=self.pad, dims=self.dims))
        )
        return y_BCx


class DownConv(nn.Module):
    """Strided convolution with a kernel of two strides; an ELU is expected to follow."""

    def __init__(
        self, c_in: int, c_out: int, *, stride: int, norm: Norm = "none", dims: Dims = 1
    ) -> None:
        super().__init__()
        self.dims = dims
        self.left, self.right = stride // 2, stride - stride // 2
        conv = _CONVS[dims](c_in, c_out, 2 * stride, stride=stride)
        init_weights(conv, fan_in=c_in * (2 * stride) ** dims, gain=ELU_GAIN)
        self.conv = with_weight_norm(conv, norm)
        self.norm = group_norm(c_out, norm)

    def forward(self, x_BCx: Tensor) -> Tensor:
        """Return (B, c_out, x / stride); the sizes x must be multiples of the stride."""
        padded_BCx = pad_edges(x_BCx, self.left, right=self.right, dims=self.dims)
        y_BCx: Tensor = self.norm(self.conv(padded_BCx))
        return y_BCx


class UpConv(nn.Module):
    """Transposed convolution with a kernel of two strides; an ELU is expected to follow.

    The input's edges are repeated once, so that every output sample is made of two frames (in each
    direction).
    """

    def __init__(
        self, c_in: int, c_out: int, *, stride: int, norm: Norm = "none", dims: Dims = 1
    ) -> None:
        super().__init__()
        self.dims = dims
        self.stride = stride
        conv = _TRANSPOSED[dims](c_in, c_out, 2 * stride, stride=stride)
        init_weights(conv, fan_in=c_in * 2**dims, gain=ELU_GAIN)
        self.conv = with_weight_norm(conv, norm)
        self.norm = group_norm(c_out, norm)

    def forward(self, x_BCx: Tensor) -> Tensor:
        """Return (B, c_out, x * stride)."""
        y_BCx = self.conv(pad_edges(x_BCx, 1, right=1, dims=self.dims))
        start = self.stride + self.stride // 2
        for dim in range(-self.dims, 0):
            y_BCx = y_BCx.narrow(dim, start, x_BCx.shape[dim] * self.stride)
        normed_BCx: Tensor = self.norm(y_BCx)
        return normed_BCx


class ResidualUnit(nn.Module):
    """Dilated convolution of 3 taps, ELU, 1x1 convolution, ELU, plus a 1x1 convolution beside."""

    def __init__(
        self, channels: int, *, dilation: int, norm: Norm = "none", dims: Dims = 1
    ) -> None:
        super().__init__()
        conv = partial(SameConv, channels, channels, dims=dims)
        self.body = nn.Sequential(
            conv(kernel=3, dilation=dilation, norm=norm, gain=ELU_GAIN),
            nn.ELU(),
            conv(norm=norm, gain=ELU_GAIN * SUM_GAIN),
            nn.ELU(),
        )
        side_norm: Norm = "weight" if norm == "weight" else "none"
        self.skip = conv(norm=side_norm, gain=SUM_GAIN)

    def forward(self, x_BCx: Tensor) -> Tensor:
        """Return (B, C, x)."""
        y_BCx: Tensor = self.body(x_BCx) + self.skip(x_BCx)
        return y_BCx


@torch.no_grad()
def init_weights(conv: Conv | TransposedConv, *, fan_in: int, gain: float) -> None:
    """Draw weights that scale a signal's standard deviation by `gain`; the bias starts at zero."""
    nn.init.normal_(conv.weight, std=gain / math.sqrt(fan_in))
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)


def with_weight_norm(conv: Conv | TransposedConv, norm: Norm) -> nn.Module:
    """Split the weight into direction and size for each output channel, if `norm` says so."""
    if norm != "weight":
        return conv
    dim = 1 if isinstance(conv, TransposedConv) else 0
    module: nn.Module = parametrizations.weight_norm(conv, dim=dim)
    return module


def group_norm(channels: int, norm: Norm) -> nn.Module:
    """Return a group norm of 16 channels a group (one group where 16 do not divide evenly)."""
    if norm != "group":
        return nn.Identity()
    even = channels % GROUP_CHANNELS == 0
    return nn.GroupNorm(channels // GROUP_CHANNELS if even else 1, channels)
