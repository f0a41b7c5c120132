"""What one pass of wav2vec 2.0 comes to: sums that add up over micro-batches, ranks and items.

Letters: B batch, L frames, C channels of the convolutions, M masked frames, G groups and V entries.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from engine.batching.batch import Batch
from engine.config.self_supervised import Wav2Vec2Loss
from engine.recipes.code_use import hard_sum, soft_sum
from engine.recipes.self_supervised.contrastive import contrast
from engine.recipes.self_supervised.frame_loss import (
    FrameLoss,
    frame_losses,
    replaces_cross_entropy,
)
from engine.recipes.self_supervised.wav2vec2_draws import counts_of
from models.layers.padding import valid_frames
from models.self_supervised.wav2vec2 import Wav2Vec2Output


@dataclass(frozen=True, slots=True)
class Terms:
    """Sums of a batch; by item where an evaluation needs them so.

    Attributes:
        contrastive_B: contrastive loss over the masked frames of each item, nats.
        objective_B: what is minimised instead, by the loss of another package; else the same.
        right_B: how many of them are told rightly.
        masked_B: how many there are.
        penalty_B: sum over all frames of the mean square of their convolutional features.
        frames_B: how many frames there are.
        soft_GV: sum of the soft codes of the masked frames.
        hard_GV: how many of them have each code as their most likely one.
    """

    contrastive_B: Tensor
    objective_B: Tensor
    right_B: Tensor
    masked_B: Tensor
    penalty_B: Tensor
    frames_B: Tensor
    soft_GV: Tensor
    hard_GV: Tensor


def terms_of(output: Wav2Vec2Output, batch: Batch, *, loss: Wav2Vec2Loss) -> Terms:
    """Return the terms of a pass over a batch with its draws."""
    counts_BM = counts_of(batch)
    found = contrast(
        output.context_BMF,
        output.target_BMF,
        codes_BMG=output.quantised.codes_NG,
        distractor_BMK=batch.tensors["distractor"].long(),
        counts_BM=counts_BM,
        temperature=loss.logit_temperature,
        objective=_objective(loss),
    )
    weight_BM = counts_BM.to(found.loss_BM.dtype)
    square_BL = _mean_square(output.feat_BLC)
    frames_B = batch.tensors["frames"]
    if output.frame_lengths_B is not None:
        square_BL = square_BL.masked_fill(~valid_frames(output.feat_BLC, frames_B), 0.0)
    logits_BMGV = output.quantised.logits_NGV
    # Frames that are not finite make the loss so; the codes of all others are still counted.
    sound_BM = logits_BMGV.isfinite().flatten(2).all(dim=2)
    logits_BMGV = logits_BMGV.masked_fill(~sound_BM[..., None, None], 0.0)
    code_BM = weight_BM * sound_BM
    return Terms(
        found.loss_BM.sum(dim=1),
        found.objective_BM.sum(dim=1),
        right_B=found.right_BM.sum(dim=1),
        masked_B=weight_BM.sum(dim=1),
        penalty_B=square_BL.sum(dim=1),
        frames_B=frames_B,
        soft_GV=soft_sum(logits_BMGV, code_BM),
        hard_GV=hard_sum(logits_BMGV, code_BM),
    )


def _objective(loss: Wav2Vec2Loss) -> FrameLoss | None:
    if not replaces_cross_entropy(loss):
        return None
    return lambda logits_NK, label_N: frame_losses(loss, logits_NK, label_N=label_N)


def _mean_square(feat_BLC: Tensor) -> Tensor:
    with torch.autocast(feat_BLC.device.type, enabled=False):
        wide_BLC = feat_BLC if feat_BLC.dtype == torch.float64 else feat_BLC.float()
        return wide_BLC.square().mean(dim=2)
