"""Building blocks of waveform networks: convolutions that pad by repeating the edge.

Owns padding, normalisation, initial weights and the residual unit. Fresh weights keep the variance
of a signal from layer to layer, through ELUs and sums of two branches, so depth neither fades nor
amplifies it. Letters in names: B batch, C channels, T samples (or frames at the block's level).
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

Norm = Literal["none", "weight", "group"]

GROUP_CHANNELS = 16
ELU_GAIN = 1.25
SUM_GAIN = math.sqrt(0.5)


def pad_edges(x_BCT: Tensor, left: int, right: int) -> Tensor:
    """Repeat the first sample `left` times and the last one `right` times.

    Equal to `F.pad(mode="replicate")`, but its gradient is deterministic on every device.
    """
    parts = [x_BCT]
    if left:
        parts.insert(0, x_BCT[..., :1].expand(-1, -1, left))
    if right:
        parts.append(x_BCT[..., -1:].expand(-1, -1, right))
    return torch.cat(parts, dim=-1) if len(parts) > 1 else x_BCT


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
    ) -> None:
        super().__init__()
        self.pad = dilation * (kernel - 1) // 2
        conv = nn.Conv1d(c_in, c_out, kernel, dilation=dilation)
        init_weights(conv, fan_in=c_in * kernel, gain=gain)
        self.conv = with_weight_norm(conv, norm)
        self.norm = group_norm(c_out, norm)

    def forward(self, x_BCT: Tensor) -> Tensor:
        """Return (B, c_out, T)."""
        y_BCT: Tensor = self.norm(self.conv(pad_edges(x_BCT, self.pad, self.pad)))
        return y_BCT


class DownConv(nn.Module):
    """Strided convolution with a kernel of two strides; an ELU is expected to follow."""

    def __init__(self, c_in: int, c_out: int, *, stride: int, norm: Norm = "none") -> None:
        super().__init__()
        self.left, self.right = stride // 2, stride - stride // 2
        conv = nn.Conv1d(c_in, c_out, 2 * stride, stride=stride)
        init_weights(conv, fan_in=c_in * 2 * stride, gain=ELU_GAIN)
        self.conv = with_weight_norm(conv, norm)
        self.norm = group_norm(c_out, norm)

    def forward(self, x_BCT: Tensor) -> Tensor:
        """Return (B, c_out, T / stride); T must be a multiple of the stride."""
        y_BCT: Tensor = self.norm(self.conv(pad_edges(x_BCT, self.left, self.right)))
        return y_BCT


class UpConv(nn.Module):
    """Transposed convolution with a kernel of two strides; an ELU is expected to follow.

    The input's edges are repeated once, so that every output sample is made of two frames.
    """

    def __init__(self, c_in: int, c_out: int, *, stride: int, norm: Norm = "none") -> None:
        super().__init__()
        self.stride = stride
        conv = nn.ConvTranspose1d(c_in, c_out, 2 * stride, stride=stride)
        init_weights(conv, fan_in=c_in * 2, gain=ELU_GAIN)
        self.conv = with_weight_norm(conv, norm)
        self.norm = group_norm(c_out, norm)

    def forward(self, x_BCT: Tensor) -> Tensor:
        """Return (B, c_out, T * stride)."""
        start = self.stride + self.stride // 2
        length = x_BCT.shape[-1] * self.stride
        y_BCT = self.conv(pad_edges(x_BCT, 1, 1))[..., start : start + length]
        normed_BCT: Tensor = self.norm(y_BCT)
        return normed_BCT


class ResidualUnit(nn.Module):
    """Dilated convolution of 3 taps, ELU, 1x1 convolution, ELU, plus a 1x1 convolution beside."""

    def __init__(self, channels: int, *, dilation: int, norm: Norm = "none") -> None:
        super().__init__()
        self.body = nn.Sequential(
            SameConv(channels, channels, kernel=3, dilation=dilation, norm=norm, gain=ELU_GAIN),
            nn.ELU(),
            SameConv(channels, channels, norm=norm, gain=ELU_GAIN * SUM_GAIN),
            nn.ELU(),
        )
        side_norm: Norm = "weight" if norm == "weight" else "none"
        self.skip = SameConv(channels, channels, norm=side_norm, gain=SUM_GAIN)

    def forward(self, x_BCT: Tensor) -> Tensor:
        """Return (B, C, T)."""
        y_BCT: Tensor = self.body(x_BCT) + self.skip(x_BCT)
        return y_BCT


@torch.no_grad()
def init_weights(conv: nn.Conv1d | nn.ConvTranspose1d, *, fan_in: int, gain: float) -> None:
    """Draw weights that scale a signal's standard deviation by `gain`; the bias starts at zero."""
    nn.init.normal_(conv.weight, std=gain / math.sqrt(fan_in))
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)


def with_weight_norm(conv: nn.Conv1d | nn.ConvTranspose1d, norm: Norm) -> nn.Module:
    """Split the weight into direction and size for each output channel, if `norm` says so."""
    if norm != "weight":
        return conv
    dim = 1 if isinstance(conv, nn.ConvTranspose1d) else 0
    module: nn.Module = parametrizations.weight_norm(conv, dim=dim)
    return module


def group_norm(channels: int, norm: Norm) -> nn.Module:
    """Return a group norm of 16 channels a group (one group where 16 do not divide evenly)."""
    if norm != "group":
        return nn.Identity()
    even = channels % GROUP_CHANNELS == 0
    return nn.GroupNorm(channels // GROUP_CHANNELS if even else 1, channels)
