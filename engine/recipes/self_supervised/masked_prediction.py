"""The objective of HuBERT: cross-entropies of masked and other frames, and the penalty on local features.

Owns what each term is divided by. Nothing here depends on how an update is split: sums of frames are
those of a micro-batch, divisors those of the whole update. Letters: B batch, L frames, N = B L,
C channels, K clusters.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from engine.config.hubert import HubertLoss
from engine.recipes.self_supervised.frame_loss import frame_losses, replaces_cross_entropy

# What `count_frames` counts, in this order.
MASKED, UNMASKED, ALL = range(3)
# The label of a frame that an item does not have.
NO_FRAME = -1


@dataclass(frozen=True, slots=True)
class FrameSums:
    """What a batch comes to before any division; every tensor is (B,), a sum over frames of each item.

    Attributes:
        loss: cross-entropy of masked and of other frames.
        objective: what is minimised instead, by the loss of another package; else the same.
        correct: how many of them are classified correctly.
        energy: mean square of local features over channels, of the frames that are penalised.
    """

    masked_loss: Tensor
    unmasked_loss: Tensor
    masked_objective: Tensor
    unmasked_objective: Tensor
    masked_correct: Tensor
    unmasked_correct: Tensor
    energy: Tensor


def count_frames(mask_BL: Tensor, valid_BL: Tensor) -> Tensor:
    """Return (B, 3) float32: masked, other and all valid frames of each item."""
    kinds = torch.stack([mask_BL & valid_BL, ~mask_BL & valid_BL, valid_BL], dim=2)
    return kinds.sum(dim=1, dtype=torch.float32)


def frame_sums(
    logits_NK: Tensor,
    label_BL: Tensor,
    *,
    mask_BL: Tensor,
    local_BLC: Tensor,
    loss: HubertLoss,
) -> FrameSums:
    """Return the sums over the frames of each item; those labelled `NO_FRAME` are left out."""
    valid_BL = label_BL != NO_FRAME
    masked_BL, unmasked_BL = mask_BL & valid_BL, ~mask_BL & valid_BL
    label_N = label_BL.clamp(min=0).flatten()
    loss_BL = nn.functional.cross_entropy(logits_NK, label_N, reduction="none").view_as(label_BL)
    objective_BL = loss_BL
    if replaces_cross_entropy(loss):
        objective_BL = frame_losses(loss, logits_NK, label_N=label_N).view_as(label_BL)
    correct_BL = is_correct(logits_NK.detach(), label_N).view_as(label_BL)
    energy_BL = (
        local_BLC.to(torch.promote_types(local_BLC.dtype, torch.float32)).square().mean(dim=2)
    )
    penalised_BL = (
        valid_BL if loss.penalty_frames == "all" else _weighted(loss, mask_BL, valid_BL=valid_BL)
    )
    return FrameSums(
        masked_loss=_sum(loss_BL, masked_BL),
        unmasked_loss=_sum(loss_BL, unmasked_BL),
        masked_objective=_sum(objective_BL, masked_BL),
        unmasked_objective=_sum(objective_BL, unmasked_BL),
        masked_correct=_sum(correct_BL.float(), masked_BL),
        unmasked_correct=_sum(correct_BL.float(), unmasked_BL),
        energy=_sum(energy_BL, penalised_BL),
    )


def is_correct(logits_NK: Tensor, label_N: Tensor) -> Tensor:
    """Return (N,) bool: whether the label has the largest logit, alone.

    A tie is wrong, so a network whose logits are all equal is never right; so is a row with NaN.
    """
    own_N1 = logits_NK.gather(1, label_N[:, None])
    return (logits_NK < own_N1).sum(dim=1) == logits_NK.shape[1] - 1


@dataclass(frozen=True, slots=True)
class Divisors:
    """How the sums of a batch become its share of the loss.

    A loss is a sum over a weight; terms with divisors of their own are brought to that weight by the
    counts of the whole update.

    Attributes:
        masked: factor of the sum of the cross-entropies of masked frames.
        unmasked: the same of other frames.
        energy: the same of the energies.
    """

    masked: Tensor
    unmasked: Tensor
    energy: Tensor

    @classmethod
    def of(cls, counts_3: Tensor, loss: HubertLoss) -> Divisors:
        """Return the factors for an update with `counts_3` masked, other and all frames."""
        weight = total_weight(counts_3, loss)
        unmasked = counts_3[UNMASKED] if loss.normalize == "separate" else weight
        return cls(
            masked=torch.full_like(weight, loss.masked_weight),
            unmasked=loss.unmasked_weight * weight / unmasked.clamp(min=1.0),
            energy=loss.penalty * weight / num_penalised(counts_3, loss).clamp(min=1.0),
        )

    def loss_sum(self, sums: FrameSums) -> Tensor:
        """Return (B,) each item's part of the sum of the loss."""
        return (
            self.masked * sums.masked_objective
            + self.unmasked * sums.unmasked_objective
            + self.energy * sums.energy
        )


def total_weight(counts_X3: Tensor, loss: HubertLoss) -> Tensor:
    """Return (...) what the sum of the loss is divided by, from counts (..., 3)."""
    if loss.normalize == "sequence":
        return _weighted_count(counts_X3, loss)
    return counts_X3[..., MASKED]


def num_penalised(counts_X3: Tensor, loss: HubertLoss) -> Tensor:
    """Return (...) the number of frames that the penalty is a mean over."""
    return counts_X3[..., ALL] if loss.penalty_frames == "all" else _weighted_count(counts_X3, loss)


def _weighted_count(counts_X3: Tensor, loss: HubertLoss) -> Tensor:
    """Return (...) the number of frames whose cross-entropy has a weight."""
    return counts_X3[..., MASKED] * (loss.masked_weight > 0) + counts_X3[..., UNMASKED] * (
        loss.unmasked_weight > 0
    )


def _weighted(loss: HubertLoss, mask_BL: Tensor, *, valid_BL: Tensor) -> Tensor:
    """Return (B, L) bool: the frames whose cross-entropy has a weight."""
    if loss.masked_weight and loss.unmasked_weight:
        return valid_BL
    return (mask_BL if loss.masked_weight else ~mask_BL) & valid_BL


def _sum(value_BL: Tensor, chosen_BL: Tensor) -> Tensor:
    """Return (B,) the sums of the chosen values; what is not chosen may be anything finite."""
    return (value_BL * chosen_BL).sum(dim=1)


def count_labels(label_BL: Tensor, clusters: int) -> Tensor:
    """Return (K,) float32: how often each label occurs; `NO_FRAME` is none."""
    label_N = label_BL.flatten()
    count_K = torch.zeros(clusters, device=label_N.device)
    return count_K.scatter_add_(0, label_N.clamp(min=0), (label_N >= 0).float())


def entropy(count_K: Tensor) -> Tensor:
    """Return () the entropy of a histogram in nats: the loss of guessing by frequency alone."""
    share_K = count_K / count_K.sum().clamp(min=1.0)
    entropy_K: Tensor = torch.special.entr(share_K)
    return entropy_K.sum()
