"""Masks of spans, as HuBERT and wav2vec 2.0 draw them. Free of torch.

The number of spans is that of fairseq and torchaudio, and so is where they may start; but rows are not
cut down to the share of the row that has least, since nothing here needs equal counts. So the mask of
an item depends on its generator and length alone, and on no other item of the batch.
Letters: B items, L frames.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def span_masks(
    generators: Sequence[np.random.Generator],
    *,
    frames: Sequence[int],
    prob: float,
    length: int,
    min_spans: int,
) -> np.ndarray:
    """Return (B, L) bool: which frames are masked; L is the length of the longest item.

    Spans start at different frames and may overlap, so a smaller share than `prob` is masked: 0.55 on
    average for 0.8 with spans of 10 frames.

    Args:
        generators: one for each item; each gives one number for the count, then one for each start.
        frames: frames of each item.
        prob: frames in spans over all frames, if no two spans overlapped.
        length: frames of a span; the last one may be cut off by the end of the item.
        min_spans: at least so many spans, or as many as an item has frames.
    """
    frames_B = np.asarray(frames)
    width = int(frames_B.max(initial=0))
    rounding_B = np.array([generator.random() for generator in generators])
    spans_B = np.maximum((prob * frames_B / length + rounding_B).astype(int), min_spans)
    # Spans start where they fit, short of the last such place (as published); if those places are too
    # few for so many spans, at one of the first.
    room_B = frames_B - length
    starts_B = np.where(room_B > spans_B, room_B, np.minimum(spans_B + 1, frames_B))
    spans_B = np.minimum(spans_B, starts_B)
    # Starts without repetition: those with the smallest of independent random numbers.
    rank_BL = np.full((len(generators), width), np.inf)
    for row_L, generator, starts in zip(rank_BL, generators, starts_B, strict=True):
        generator.random(out=row_L[:starts])
    sorted_BL = np.sort(np.pad(rank_BL, ((0, 0), (1, 0)), constant_values=-1.0), axis=1)
    limit_B = np.take_along_axis(sorted_BL, spans_B[:, None], axis=1)
    started_BL = np.cumsum(rank_BL <= limit_B, axis=1)
    masked_BL = started_BL > np.pad(started_BL, ((0, 0), (length, 0)))[:, :width]
    return masked_BL & (np.arange(width) < frames_B[:, None])


def mean_run(mask_BL: np.ndarray) -> tuple[int, int]:
    """Return how many frames are masked, and in how many runs without a gap."""
    begins_BL = mask_BL & ~np.pad(mask_BL, ((0, 0), (1, 0)))[:, :-1]
    return int(mask_BL.sum()), int(begins_BL.sum())
