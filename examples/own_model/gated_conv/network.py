"""The network. B: batch, S: sources, C: channels, T: samples, W: width."""

from __future__ import annotations

import torch
from torch import nn


class Layer(nn.Module):
    """A dilated convolution with a gate and a skip connection; keeps the shape (B, W, T)."""

    def __init__(self, width: int, *, dilation: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(width, 2 * width, 3, padding=dilation, dilation=dilation)

    def forward(self, hidden_BWT: torch.Tensor) -> torch.Tensor:
        """Return the input plus its gated convolution."""
        value_BWT, gate_BWT = self.conv(hidden_BWT).chunk(2, dim=1)
        return hidden_BWT + value_BWT * torch.sigmoid(gate_BWT)


class Network(nn.Module):
    """Maps (B, C, T) to (B, S, C, T), for any T >= 1."""

    def __init__(self, *, channels: int, sources: int, width: int, num_layers: int) -> None:
        super().__init__()
        self.sources, self.channels = sources, channels
        self.enter = nn.Conv1d(channels, width, 1)
        self.layers = nn.Sequential(
            *(Layer(width, dilation=2**number) for number in range(num_layers))
        )
        self.leave = nn.Conv1d(width, sources * channels, 1)

    def forward(self, mix_BCT: torch.Tensor) -> torch.Tensor:
        """Return estimates (B, S, C, T): the mixture plus a learnt change for each source."""
        change = self.leave(self.layers(self.enter(mix_BCT)))
        change_BSCT = change.unflatten(1, (self.sources, self.channels))
        return mix_BCT.unsqueeze(1) + change_BSCT
