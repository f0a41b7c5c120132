"""Which frames of a padded batch belong to their item. Letters: B batch, T frames, D channels."""

from __future__ import annotations

import torch
from torch import Tensor


def valid_frames(x_BTD: Tensor, lengths_B: Tensor) -> Tensor:
    """Return (B, T) bool: which frames belong to their item."""
    return torch.arange(x_BTD.shape[1], device=x_BTD.device) < lengths_B.unsqueeze(1)


def zero_padding(x_BTD: Tensor, lengths_B: Tensor) -> Tensor:
    """Return `x_BTD` with zeros after the length of each item."""
    return x_BTD.masked_fill(~valid_frames(x_BTD, lengths_B).unsqueeze(2), 0.0)
