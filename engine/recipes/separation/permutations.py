"""Estimates of interchangeable sources, put in the order of their references.

Permutation-invariant training (Yu et al., 2017; Kolbaek et al., 2017): the order of the estimates
with the smallest loss counts. Letters: B batch, S sources, C channels, T samples.
"""

from __future__ import annotations

from itertools import permutations

import numpy as np
import torch
from torch import Tensor

from engine.recipes.separation.losses import Loss


def permutation_invariant(loss: Loss, *, total: bool) -> Loss:
    """Return the loss of the best order of the estimates, for each item (B,).

    Args:
        loss: a loss that treats sources alike; applied to every pair of estimate and reference.
        total: whether the loss is the sum over sources (otherwise the mean).
    """

    def computed(est_BSCT: Tensor, ref_BSCT: Tensor) -> Tensor:
        loss_BSS = _pairwise(loss, est_BSCT, ref_BSCT=ref_BSCT)
        loss_BS = loss_BSS.gather(1, best_order(-loss_BSS).unsqueeze(1)).squeeze(1)
        return loss_BS.sum(dim=1) if total else loss_BS.mean(dim=1)

    return computed


@torch.no_grad()
def best_order(score_BSS: Tensor) -> Tensor:
    """Return (B, S): the estimate assigned to each reference, with the maximum total score.

    Args:
        score_BSS: score of each estimate (first S) for each reference (second S); NaN (from a
            silent reference) counts as 0.
    """
    sources = score_BSS.shape[-1]
    orders_PS = torch.tensor(list(permutations(range(sources))), device=score_BSS.device)
    references_S = torch.arange(sources, device=score_BSS.device)
    total_BP = score_BSS.nan_to_num(nan=0.0)[:, orders_PS, references_S].sum(dim=-1)
    return orders_PS[total_BP.argmax(dim=1)]


def in_order(est_BSCT: Tensor, order_BS: Tensor) -> Tensor:
    """Return the estimates in the order of the references."""
    return est_BSCT[torch.arange(len(est_BSCT), device=est_BSCT.device).unsqueeze(1), order_BS]


def continued(before_SCT: np.ndarray, after_SCT: np.ndarray) -> list[int]:
    """Return the order in which the sources of one estimate continue those of another.

    Both cover the same time; the order maximises the sum of their inner products.
    """
    before_SN, after_SN = (
        x.reshape(len(x), -1).astype(np.float64) for x in (before_SCT, after_SCT)
    )
    score_SS = torch.from_numpy(after_SN @ before_SN.T)
    order: list[int] = best_order(score_SS.unsqueeze(0))[0].tolist()
    return order


def _pairwise(loss: Loss, est_BSCT: Tensor, *, ref_BSCT: Tensor) -> Tensor:
    """Return (B, S, S): the loss of each estimate (first S) against each reference."""
    batch, sources, *rest = est_BSCT.shape
    shape = (batch, sources, sources, *rest)
    est = est_BSCT.unsqueeze(2).expand(shape).reshape(-1, 1, *rest)
    ref = ref_BSCT.unsqueeze(1).expand(shape).reshape(-1, 1, *rest)
    return loss(est, ref).reshape(batch, sources, sources)
