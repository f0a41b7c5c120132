"""From the frames of a labelled part to one vector. Letters: L frames, D dimensions."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping

import numpy as np

NUM_SEGMENTS = 4


def mean_pooled(frames_LD: np.ndarray) -> np.ndarray:
    """Return the mean over frames, (D,)."""
    return np.asarray(frames_LD.mean(axis=0))


def segment_pooled(frames_LD: np.ndarray) -> np.ndarray:
    """Return the means of four equal segments, one after another, (4 D,).

    A segment begins at the frame it falls into, so that with fewer than four frames some count twice.
    """
    count = len(frames_LD)
    edges = [place * count / NUM_SEGMENTS for place in range(NUM_SEGMENTS + 1)]
    parts = []
    for first, last in itertools.pairwise(edges):
        begin = int(first)
        parts.append(frames_LD[begin : max(begin + 1, int(last))].mean(axis=0))
    return np.concatenate(parts)


POOLINGS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "mean": mean_pooled,
    "segments": segment_pooled,
}


def frames_between(
    num_frames: int, part_s: tuple[float, float], *, frame_s: float, first_s: float
) -> slice:
    """Return the frames whose centre is in a part of a recording; the nearest one if there is none.

    Args:
        num_frames: frames of the recording, at least one.
        part_s: start and end of the part.
        frame_s: distance between frames.
        first_s: centre of frame 0.
    """
    start_s, end_s = part_s
    begin = int(np.ceil((start_s - first_s) / frame_s - 1e-9))
    end = int(np.ceil((end_s - first_s) / frame_s - 1e-9))
    begin, end = max(0, begin), min(num_frames, end)
    if begin < end:
        return slice(begin, end)
    middle = round(((start_s + end_s) / 2 - first_s) / frame_s)
    nearest = min(num_frames - 1, max(0, middle))
    return slice(nearest, nearest + 1)
