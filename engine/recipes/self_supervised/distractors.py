"""Distractors of the contrastive task: which other masked frames of the same utterance stand against each.

Free of torch. Letters: n masked frames of an utterance, K distractors of each.
"""

from __future__ import annotations

import numpy as np


def draw_distractors(generator: np.random.Generator, *, frames: int, count: int) -> np.ndarray:
    """Return (n, K) int64 places among the masked frames: uniform, with replacement, never the own one.

    Args:
        generator: that of the item.
        frames: n; with fewer than 2 nothing can be drawn, and the result is 0 everywhere.
        count: K.
    """
    if frames < 2:
        return np.zeros((frames, count), dtype=np.int64)
    place = generator.integers(frames - 1, size=(frames, count))
    return place + (place >= np.arange(frames)[:, None])
