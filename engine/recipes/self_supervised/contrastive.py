"""The contrastive loss of wav2vec 2.0: to tell the code of a masked frame from those of other masked frames.

Similarities are one normalised float32 product an utterance, from which distractors are picked: nothing is
expanded to (frames, distractors, channels). Source: Baevski et al., 2020, equation 3. Letters: B batch, M
masked frames of the row that has most, K distractors, D channels, G groups.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Contrast:
    """Values of each masked frame, (B, M); 0 where none counts.

    Attributes:
        loss_BM: nats.
        objective_BM: what is minimised instead, by the loss of another package; else the same.
        right_BM: 1.0 where the frame's own code is more similar than every distractor.
    """

    loss_BM: Tensor
    objective_BM: Tensor
    right_BM: Tensor


def contrast(
    context_BMD: Tensor,
    target_BMD: Tensor,
    *,
    codes_BMG: Tensor,
    distractor_BMK: Tensor,
    counts_BM: Tensor,
    temperature: float,
    objective: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Contrast:
    """Compare what the network predicts with codes.

    A distractor that has the codes of the frame itself is no distractor: it gets -inf, told by the codes and
    not by the vectors, which rounding can set apart. A tie is wrong, and so is a frame without distractors,
    so that a collapsed network has an accuracy of 0 and not of 1.

    Args:
        context_BMD: predictions at the masked frames.
        target_BMD: the quantised features there.
        codes_BMG: int64, their codes.
        distractor_BMK: places of the distractors among the masked frames of the row.
        counts_BM: bool, the frames that count; others are padding, or have no distractors.
        temperature: what similarities are divided by.
        objective: maps logits (N, 1 + K), the frame's own code first, and labels (N,), all 0, to what is
            minimised of each frame that counts (N,); None: the cross-entropy.
    """
    with torch.autocast(context_BMD.device.type, enabled=False):
        context_BMD = nn.functional.normalize(_wide(context_BMD), dim=-1)
        target_BMD = nn.functional.normalize(_wide(target_BMD), dim=-1)
        logits_BMM = context_BMD @ target_BMD.transpose(1, 2) / temperature
    own_BM = logits_BMM.diagonal(dim1=1, dim2=2)
    same_BMK = _same_codes(codes_BMG, distractor_BMK)
    other_BMK = logits_BMM.gather(2, distractor_BMK).masked_fill(same_BMK, -torch.inf)
    all_BMX = torch.cat([own_BM[..., None], other_BMK], dim=2)
    loss_BM = all_BMX.logsumexp(dim=2) - own_BM
    objective_BM = loss_BM
    if objective is not None:
        logits_NX = all_BMX.flatten(0, 1)
        label_N = torch.zeros(len(logits_NX), dtype=torch.int64, device=logits_NX.device)
        objective_BM = objective(logits_NX, label_N).view_as(loss_BM)
    with torch.no_grad():
        right_BM = (own_BM > other_BMK.amax(dim=2)) & ~same_BMK.all(dim=2) & counts_BM
    return Contrast(
        loss_BM.masked_fill(~counts_BM, 0.0),
        objective_BM.masked_fill(~counts_BM, 0.0),
        right_BM=right_BM.to(loss_BM.dtype),
    )


def _same_codes(codes_BMG: Tensor, distractor_BMK: Tensor) -> Tensor:
    """Return (B, M, K) bool: which distractors agree with the frame in every group."""
    same_BMK = torch.ones_like(distractor_BMK, dtype=torch.bool)
    for codes_BM in codes_BMG.unbind(dim=2):
        theirs_BMK = codes_BM.gather(1, distractor_BMK.flatten(1)).view_as(distractor_BMK)
        same_BMK &= theirs_BMK == codes_BM[..., None]
    return same_BMK


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
