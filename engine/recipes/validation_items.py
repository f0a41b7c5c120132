"""Which validation items an evaluation takes, and in which batches. Letters: N items."""

from __future__ import annotations

import numpy as np

from engine.config.schema import RunConfig


def num_validated(config: RunConfig, num_items: int) -> int:
    """Return how many of `num_items` validation items are taken, the first: `validation.max_items`; 0: all."""
    most = config.validation.max_items
    return min(most, num_items) if most else num_items


def longest_first(length_N: np.ndarray, most: int) -> list[list[int]]:
    """Return items in batches of at most `most`, the longest first, to minimise padding."""
    order = np.argsort(-length_N, kind="stable").tolist()
    return [order[start : start + most] for start in range(0, len(order), most)]
