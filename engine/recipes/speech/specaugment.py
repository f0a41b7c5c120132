"""SpecAugment (Park et al., 2019): time and frequency masks during training.

Letters: L frames, F mel bands.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from engine.config.speech import SpeechData


def spec_augment(
    feat_LF: Tensor, data: SpeechData, *, generator: np.random.Generator, hidden_F: Tensor
) -> Tensor:
    """Return a copy with masks, each of a width drawn from 0 to its maximum.

    Args:
        feat_LF: frames.
        data: number and maximum width of the masks.
        generator: keyed by (seed, epoch, item), so that every process draws the same masks.
        hidden_F: the value of masked bands: the mean of the training set.
    """
    frames, mels = feat_LF.shape
    feat_LF = feat_LF.clone()
    for _ in range(data.freq_masks):
        start, stop = _span(generator, min(data.freq_mask_mels, mels), total=mels)
        feat_LF[:, start:stop] = hidden_F[start:stop]
    longest = min(data.time_mask_frames, int(data.time_mask_share * frames))
    for _ in range(data.time_masks):
        start, stop = _span(generator, longest, total=frames)
        feat_LF[start:stop] = hidden_F
    return feat_LF


def _span(generator: np.random.Generator, longest: int, *, total: int) -> tuple[int, int]:
    """Draw a width from 0 to `longest`, then where it lies."""
    width = int(generator.integers(0, longest + 1))
    start = int(generator.integers(0, total - width + 1))
    return start, start + width
