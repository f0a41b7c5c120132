"""Losses of other packages that take the place of a cross-entropy: one value for each frame.

Letters: N frames, K classes (clusters, or a frame's own code and its distractors).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from engine.config.loss_settings import LossSettings
from engine.config.losses import PluginLoss

# Maps logits (N, K), float32 at least, and labels (N,) to one value for each frame (N,).
FrameLoss = Callable[[Tensor, Tensor], Tensor]


def replaces_cross_entropy(loss: LossSettings) -> bool:
    """Return whether something else is minimised."""
    return isinstance(loss, PluginLoss)


def frame_losses(loss: LossSettings, logits_NK: Tensor, *, label_N: Tensor) -> Tensor:
    """Return what the loss of a package says of each frame (N,).

    Raises:
        ValueError: when it returns no value for each frame.
    """
    assert isinstance(loss, PluginLoss)
    with torch.autocast(logits_NK.device.type, enabled=False):
        value_N = _built(loss)(logits_NK, label_N)
    if value_N.shape != label_N.shape:
        raise ValueError(
            f"loss.kind = {loss.kind!r}: its package returned shape {tuple(value_N.shape)} for "
            f"{len(label_N)} frames, expected one value for each frame"
        )
    return value_N


@cache
def _built(loss: PluginLoss) -> FrameLoss:
    """Return the function of a loss, made once in each process: it need not be picklable."""
    function: FrameLoss = loss.build()
    return function
