"""Clusters of a sample of frames, for purity and PNMI: those that targets are made with."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from engine.clustering.kmeans import KMeansFit, nearest

_STARTS = 3


def fitter(
    num_clusters: int, *, seed: int
) -> Callable[[np.ndarray], Callable[[np.ndarray], np.ndarray]]:
    """Return what fits clusters on (L, D) frames and returns what assigns them to others."""

    def fit(frames_LD: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        order = np.random.default_rng(seed).permutation(len(frames_LD))
        points_FD = torch.from_numpy(np.ascontiguousarray(frames_LD[order], dtype=np.float32))
        plan = KMeansFit(num_clusters, seed, starts=_STARTS)
        state = plan.start()
        for index in range(plan.num_steps()):
            state = plan.step(index, state, points_FD=points_FD)
        centroids_KD = state["centroids"]

        def assign(others_LD: np.ndarray) -> np.ndarray:
            points = torch.from_numpy(np.ascontiguousarray(others_LD, dtype=np.float32))
            return np.asarray(nearest(points, centroids_KD)[0].numpy())

        return assign

    return fit
