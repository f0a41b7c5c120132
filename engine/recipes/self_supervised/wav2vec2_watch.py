"""What the curves of wav2vec 2.0 look like when it has learnt nothing. Free of torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from engine.metrics.built_in import contrastive_chance
from engine.recipes.base import CurvePoints, Finding

# How long a condition has to last, and how near to chance a loss is at chance.
LASTS_UPDATES = 200
_NEAR_NATS = 0.01


def findings(points: CurvePoints, *, groups: int, entries: int, distractors: int) -> list[Finding]:
    """Return whether codes have collapsed, and whether the contrastive loss stays at chance.

    Codes have collapsed when fewer than two a codebook are in use, whatever the loss: distractors with the
    code of the frame itself don't count, so the loss of such a network is near 0.

    Args:
        points: with the curves `code_perplexity`, `contrastive_loss` and `lr`.
        groups: G, number of codebooks.
        entries: V, their size.
        distractors: K.
    """
    found = []
    least = 2 * groups
    if points.lasts("code_perplexity", lambda value_N: value_N < least, updates=LASTS_UPDATES):
        found.append(
            Finding(
                "codes-collapsed",
                f"code perplexity below {least} of {groups * entries} for {LASTS_UPDATES} updates: the "
                "codes have collapsed, and the loss means nothing. Lower optimizer.lr, lengthen "
                "schedule.warmup, raise loss.diversity_weight, or use larger updates",
            )
        )
    chance = contrastive_chance(distractors)
    if points.lasts(
        "contrastive_loss",
        lambda value_N: np.abs(value_N - chance) <= _NEAR_NATS,
        updates=LASTS_UPDATES,
        after=_warmed_up(points),
    ):
        found.append(
            Finding(
                "loss-at-chance",
                f"contrastive loss within {_NEAR_NATS:g} of chance, ln({distractors + 1}) = {chance:.3f} "
                f"nats, for {LASTS_UPDATES} updates after warm-up: nothing is learnt. Lower optimizer.lr, "
                "or use larger updates",
            )
        )
    return found


def _warmed_up(points: CurvePoints) -> int:
    """Return the last update in which the learning rate was still rising; 0 where it never rises."""
    lr_N = points.series["lr"]
    rising: Sequence[int] = points.updates[1:][np.diff(lr_N) > 0].tolist()
    return rising[-1] if rising else 0
