"""How evenly codes are used, from counts that were summed over an update or a whole validation set.

Never a mean over batches: the perplexity of a batch is bounded by its size. Letters: K codes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from engine.recipes.base import CurvePoints, Finding
from engine.recipes.code_use import perplexity

# How long and how unevenly codes are used before it is reported.
LASTS_UPDATES, LEAST_USAGE = 200, 0.05


def count(index_N: Tensor, num_codes: int) -> Tensor:
    """Return (K,) float32, how often each code is among (N,) indices."""
    ones_N = torch.ones(index_N.numel(), device=index_N.device)
    return ones_N.new_zeros(num_codes).index_add_(0, index_N.flatten(), ones_N)


def code_metrics(count_K: Tensor) -> dict[str, Tensor]:
    """Return () of codes_used, codebook_perplexity and largest_code."""
    return {
        "codes_used": (count_K > 0).sum(),
        "codebook_perplexity": perplexity(count_K[None])[0],
        "largest_code": count_K.max() / count_K.sum(),
    }


def usage(count_K: Tensor) -> Tensor:
    """Return () the perplexity relative to the most that so many vectors could have, 0 to 1."""
    most = count_K.sum().clamp(min=1.0, max=float(len(count_K)))
    return perplexity(count_K[None])[0] / most


def find_collapse(points: CurvePoints, *, quantiser: str) -> Sequence[Finding]:
    """Return whether a few codes have stood for nearly everything for a while.

    Args:
        points: with the curve `code_usage`.
        quantiser: fsq or vq.
    """

    def is_low(value_N: np.ndarray) -> np.ndarray:
        return value_N < LEAST_USAGE

    if not points.lasts("code_usage", is_low, updates=LASTS_UPDATES):
        return []
    last = points.series["code_usage"][-1]
    advice = (
        "Lower optimizer.lr, lengthen schedule.warmup, or use fewer model.levels"
        if quantiser == "fsq"
        else "Set model.kmeans_start = true and model.revive_below = 0.1, lower optimizer.lr, or use "
        "model.quantiser = 'fsq'"
    )
    text = (
        f"the codebook has collapsed by update {points.updates[-1]}: codebook perplexity was below "
        f"{LEAST_USAGE:.0%} of its maximum for {LASTS_UPDATES} updates (now {last:.1%}), so most of the codes "
        f"are not used. {advice}, and start a new run"
    )
    return [Finding("codes-collapsed", text)]
