"""How evenly codes are used: sums over frames, their perplexity, and the diversity loss.

Sums add up over micro-batches, ranks and validation items; perplexities do not, so they are taken of sums
over a whole update or a whole validation set. Letters: N frames (any leading shape), G groups, V entries.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def soft_sum(logits_NGV: Tensor, weight_N: Tensor) -> Tensor:
    """Return (G, V): the sum of the soft codes, at temperature 1 and without noise."""
    soft_NGV = logits_NGV.softmax(dim=-1) * weight_N[..., None, None]
    return soft_NGV.flatten(0, -3).sum(0)


@torch.no_grad()
def hard_sum(logits_NGV: Tensor, weight_N: Tensor) -> Tensor:
    """Return (G, V): how many frames have each code as their most likely one."""
    hard_NGV = nn.functional.one_hot(logits_NGV.argmax(dim=-1), logits_NGV.shape[-1])
    return (hard_NGV * weight_N[..., None, None]).flatten(0, -3).sum(0)


def perplexity(sum_GV: Tensor) -> Tensor:
    """Return (G,) the exponential of the entropy of each group, 1 to V; 1 where nothing was counted."""
    share_GV = sum_GV / sum_GV.sum(dim=-1, keepdim=True).clamp(min=1e-12)
    return torch.exp(-torch.xlogy(share_GV, share_GV.clamp(min=1e-12)).sum(dim=-1))


def diversity(soft_GV: Tensor) -> Tensor:
    """Return () the diversity loss of summed soft codes: 0 where all are used alike, near 1 for one code.

    (G V - sum of the perplexities) / (G V), as in Baevski et al., 2020, and fairseq.
    """
    return 1 - perplexity(soft_GV).sum() / soft_GV.numel()
