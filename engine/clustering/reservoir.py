"""Which frames k-means is fitted on: a seeded sample, drawn before any frame is computed, held in memory.

Frame counts follow from the lengths of the files, so the sample is a pure function of (counts, seed), and
only files that hold some of it are read. Memory: `capacity * D * 4` bytes for frames of D numbers (500
clusters x 300 frames x 768 = 461 MB), whatever the size of the data. Nothing is written to disk.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from engine.item_random import item_generator

# Files are drawn until they hold so many times the sample: large data are sampled over many files
# without reading all of them. (500 clusters x 300 frames: 8000 utterances of 12 s, 20 frames of each.)
_SPREAD = 32


class Reservoir:
    """A uniform sample of frames without repetition, filled file by file in any order.

    Attributes:
        items: the files to read, ascending.
        capacity: the number of frames, at most those there are.
    """

    def __init__(self, frames_N: np.ndarray, *, capacity: int, seed: int) -> None:
        """Draw the sample.

        Args:
            frames_N: number of frames of each file.
            capacity: the most frames to hold.
            seed: of the draw.

        Raises:
            ValueError: when there is no frame at all.
        """
        frames_N = np.asarray(frames_N, dtype=np.int64)
        if not frames_N.sum():
            raise ValueError("no file is long enough for a single frame")
        draw = item_generator(seed, 0, 0, "reservoir")
        order = draw.permutation(len(frames_N))
        enough = np.searchsorted(np.cumsum(frames_N[order]), _SPREAD * capacity) + 1
        pool = np.sort(order[:enough])
        ends = np.cumsum(frames_N[pool])
        self.capacity = int(min(capacity, ends[-1]))
        places = np.sort(draw.choice(int(ends[-1]), size=self.capacity, replace=False))
        owner = np.searchsorted(ends, places, side="right")
        self._frame = places - (ends - frames_N[pool])[owner]
        found, first = np.unique(owner, return_index=True)
        self.items: list[int] = pool[found].tolist()
        self._rows = dict(
            zip(self.items, np.split(np.arange(self.capacity), first[1:]), strict=True)
        )
        # K-means++ looks at the first rows more than at others: their order must not be that of the files.
        self._shuffle = draw.permutation(self.capacity)
        self._missing = set(self.items)
        self._points_FD: Tensor | None = None

    def put(self, item: int, feat_LD: Tensor) -> None:
        """Keep the chosen frames of a file, of all its frames (L, D)."""
        rows = self._rows[item]
        if self._points_FD is None:
            self._points_FD = torch.empty(
                self.capacity, feat_LD.shape[1], dtype=torch.float32, device=feat_LD.device
            )
        chosen = torch.from_numpy(self._frame[rows]).to(feat_LD.device)
        target = torch.from_numpy(self._shuffle[rows]).to(feat_LD.device)
        self._points_FD[target] = feat_LD[chosen].float()
        self._missing.discard(item)

    @property
    def is_full(self) -> bool:
        """Whether every file of `items` was put."""
        return not self._missing

    def points(self) -> Tensor:
        """Return (F, D) float32, in an order that has nothing to do with that of the files."""
        assert self.is_full, "put all items first"
        assert self._points_FD is not None
        return self._points_FD
