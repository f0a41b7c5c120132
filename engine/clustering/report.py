"""What people need to know of a clustering: inertia, clusters in use, perplexity, the largest share."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class ClusterReport:
    """How frames fall into clusters.

    Attributes:
        clusters: K.
        frames: how many were assigned.
        used: clusters with a frame at least.
        inertia: mean squared distance of a frame to its centroid; None where it was not measured.
        perplexity: exp of the entropy of the clusters; K where all are equally frequent.
        largest_share: share of the frames in the most frequent cluster.
    """

    clusters: int
    frames: int
    used: int
    inertia: float | None
    perplexity: float
    largest_share: float

    @classmethod
    def of(cls, count_K: np.ndarray, *, distance_sum: float | None = None) -> ClusterReport:
        """Report counts of frames, and the sum of their squared distances where it is known.

        Raises:
            ValueError: when no frame was assigned.
        """
        frames = int(count_K.sum())
        if not frames:
            raise ValueError("no frame was assigned to a cluster")
        share_K = count_K[count_K > 0] / frames
        return cls(
            clusters=len(count_K),
            frames=frames,
            used=len(share_K),
            inertia=None if distance_sum is None else distance_sum / frames,
            perplexity=float(np.exp(-(share_K * np.log(share_K)).sum())),
            largest_share=float(share_K.max()),
        )

    @property
    def text(self) -> str:
        """One line for people."""
        inertia = "" if self.inertia is None else f", inertia {self.inertia:.4g} per frame"
        return (
            f"{self.frames:,} frames in {self.used} of {self.clusters} clusters, perplexity "
            f"{self.perplexity:.1f}, largest cluster {self.largest_share:.1%}{inertia}"
        )

    @property
    def warning(self) -> str:
        """Why the clustering is suspicious; empty where it is not."""
        if self.used * 2 >= self.clusters:
            return ""
        return (
            f"only {self.used} of {self.clusters} clusters are in use; expected at least half: use fewer "
            "clusters, or more varied audio"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the values, for JSON."""
        return asdict(self)
