"""How well clusters of frames agree with labels: purity, cluster purity, PNMI.

Source: HuBERT (Hsu et al. 2021), section IV.E. From the joint distribution p(y, c) of labels y and
clusters c over frames: purity is the sum over c of max_y p(y, c), cluster purity the sum over y of
max_c p(y, c), PNMI = I(y; c) / H(y). Letters: Y labels, C clusters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Agreement:
    """Measures of one joint histogram; each in [0, 1], NaN without frames, or PNMI with one label."""

    purity: float
    cluster_purity: float
    pnmi: float


def agreement(counts_YC: np.ndarray) -> Agreement:
    """Return the measures of a joint histogram of frames."""
    total = float(counts_YC.sum())
    if total <= 0:
        return Agreement(float("nan"), float("nan"), pnmi=float("nan"))
    joint_YC = counts_YC / total
    label_Y, cluster_C = joint_YC.sum(axis=1), joint_YC.sum(axis=0)
    entropy = _entropy(label_Y)
    shared = entropy + _entropy(cluster_C) - _entropy(joint_YC)
    return Agreement(
        float(joint_YC.max(axis=0).sum()),
        float(joint_YC.max(axis=1).sum()),
        pnmi=min(1.0, max(0.0, shared / entropy)) if entropy > 0 else float("nan"),
    )


def histogram(
    labels_L: np.ndarray, clusters_L: np.ndarray, *, num_labels: int, num_clusters: int
) -> np.ndarray:
    """Return the joint histogram (Y, C) of the labels and clusters of L frames."""
    flat = np.bincount(labels_L * num_clusters + clusters_L, minlength=num_labels * num_clusters)
    return flat.reshape(num_labels, num_clusters)


def _entropy(probabilities: np.ndarray) -> float:
    some = probabilities[probabilities > 0]
    return float(-(some * np.log(some)).sum())
