"""K-means on a sample that fits into memory: k-means++ from several starts, then Lloyd's iterations.

Owns the fit as a walk of short steps, so that it can be shown, stopped and resumed, and the assignment
of frames to clusters. Every draw is keyed by (seed, start, round). Distances are computed block by
block; (F, K) never exists. Letters: F frames of the sample, N rows, K clusters, D numbers of a frame.

Source: Arthur and Vassilvitskii, "k-means++: the advantages of careful seeding", 2007; several candidates
a round (its section on implementation), of which the best is kept, as in scikit-learn.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from engine.item_random import item_generator

Tensors = dict[str, Tensor]

_BLOCK = 8_192
# Centroids are sown on so many frames a cluster, and so many in one step.
_SOWN_ON, _SOWN_AT_ONCE = 64, 25
# Fitting ends when an iteration lowers the inertia by less than this share of it.
_TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True)
class KMeansFit:
    """How k-means is fitted.

    Attributes:
        clusters: K, at least 2.
        seed: of all draws.
        starts: how often k-means++ is begun anew.
        short: iterations of each start; the one with the lowest inertia goes on.
        iterations: the most iterations of that one.
    """

    clusters: int
    seed: int
    starts: int = 5
    short: int = 10
    iterations: int = 100

    def num_steps(self) -> int:
        """Return the number of steps; those after convergence take no time."""
        return self.starts * self._steps_of_start + self.iterations

    def start(self) -> Tensors:
        """Return the state before the first step."""
        return {"best_inertia": torch.tensor(math.inf, dtype=torch.float64)}

    def step(self, index: int, state: Tensors, *, points_FD: Tensor) -> Tensors:
        """Return the state after a step; a pure function of its arguments."""
        with _exact_products():
            return self._step(index, state, points_FD=points_FD)

    def _step(self, index: int, state: Tensors, *, points_FD: Tensor) -> Tensors:
        begun, at = divmod(index, self._steps_of_start)
        if begun >= self.starts:
            if index == self.starts * self._steps_of_start:
                state = {"centroids": state["best"], "inertia": state["best_inertia"]}
            return _iterate(state, points_FD)
        best = ("best", "best_inertia")
        kept: Tensors = {name: tensor for name, tensor in state.items() if name in best}
        if at < self._sowing_steps:
            state = {} if at == 0 else state
            return {**kept, **self._sow(at, state, points_FD=points_FD, start=begun)}
        inner = {name: state[name] for name in state if name not in kept}
        after = _iterate(inner, points_FD)
        if at == self._steps_of_start - 1 and bool(after["inertia"] < kept["best_inertia"]):
            kept = {"best": after["centroids"], "best_inertia": after["inertia"]}
        return {**kept, **after}

    @property
    def _sowing_steps(self) -> int:
        return math.ceil(self.clusters / _SOWN_AT_ONCE)

    @property
    def _steps_of_start(self) -> int:
        return self._sowing_steps + self.short

    def _sow(self, at: int, state: Tensors, *, points_FD: Tensor, start: int) -> Tensors:
        """Choose the next centroids among the points."""
        first, end = at * _SOWN_AT_ONCE, min((at + 1) * _SOWN_AT_ONCE, self.clusters)
        x_FD = points_FD[: _SOWN_ON * self.clusters]
        chosen_KD = [] if first == 0 else [state["centroids"]]
        near_F = None if first == 0 else state["near"]
        for number in range(first, end):
            draw = item_generator(self.seed, start, number, "k-means++")
            row, near_F = _sown(x_FD, near_F, clusters=self.clusters, draw=draw)
            chosen_KD.append(x_FD[row : row + 1])
        assert near_F is not None
        centroids_KD = torch.cat(chosen_KD)
        if end < self.clusters:
            return {"centroids": centroids_KD, "near": near_F}
        return {"centroids": centroids_KD, "inertia": torch.tensor(math.inf, dtype=torch.float64)}


def _sown(
    x_FD: Tensor, near_F: Tensor | None, *, clusters: int, draw: np.random.Generator
) -> tuple[int, Tensor]:
    """Return the row of the next centroid, and the squared distance of each row to its nearest one."""
    if near_F is None:
        row = int(draw.integers(len(x_FD)))
        return row, _squared(x_FD, x_FD[row : row + 1])[:, 0]
    # On the CPU and in float64: a cumulative sum on a GPU is not the same twice.
    mass_F = near_F.double().cpu().numpy().cumsum()
    tries = draw.random(2 + int(math.log(clusters))) * mass_F[-1]
    rows = np.searchsorted(mass_F, tries, side="right").clip(max=len(x_FD) - 1)
    candidates = torch.from_numpy(rows).to(x_FD.device)
    near_FC = torch.minimum(_squared(x_FD, x_FD[candidates]), near_F[:, None])
    best = int(near_FC.double().sum(dim=0).argmin())
    return int(rows[best]), near_FC[:, best].contiguous()


def _squared(x_FD: Tensor, centre_CD: Tensor) -> Tensor:
    """Return (F, C) squared distances, never negative."""
    middle_D = centre_CD.mean(dim=0)
    x_FD, centre_CD = x_FD - middle_D, centre_CD - middle_D
    squares_FC = torch.addmm((x_FD**2).sum(dim=1, keepdim=True), x_FD, centre_CD.T, alpha=-2)
    return (squares_FC + (centre_CD**2).sum(dim=1)).clamp(min=0)


def _iterate(state: Tensors, points_FD: Tensor) -> Tensors:
    """Return the state after one of Lloyd's iterations; unchanged once it has converged."""
    if "converged" in state:
        return state
    centroids_KD = state["centroids"]
    label_F, distance_F = nearest(points_FD, centroids_KD)
    inertia = distance_F.double().sum().cpu()
    moved_KD = _means(points_FD, label_F, distance_F=distance_F, centroids_KD=centroids_KD)
    after = {"centroids": moved_KD, "inertia": inertia}
    before = state["inertia"]
    if bool(before - inertia <= _TOLERANCE * inertia):
        # The inertia is that of the centroids it was measured with.
        after = {"centroids": centroids_KD, "inertia": inertia, "converged": torch.tensor(True)}
    return after


def _means(
    points_FD: Tensor, label_F: Tensor, *, distance_F: Tensor, centroids_KD: Tensor
) -> Tensor:
    """Return the mean of each cluster; an empty one moves to a frame far from its own centroid."""
    count_K = torch.bincount(label_F, minlength=len(centroids_KD))
    empty = torch.nonzero(count_K == 0).flatten()
    if len(empty):
        # `sort` is stable, `topk` is not: frames of equal distance would make the result a matter of chance.
        far = torch.sort(distance_F, descending=True, stable=True).indices[: len(empty)]
        label_F = label_F.clone()
        label_F[far] = empty[: len(far)]
        count_K = torch.bincount(label_F, minlength=len(centroids_KD))
    sum_KD = _sums(points_FD, label_F, clusters=len(centroids_KD))
    means_KD = (sum_KD / count_K.clamp(min=1)[:, None]).float()
    return torch.where(count_K[:, None] > 0, means_KD, centroids_KD)


def _sums(points_FD: Tensor, label_F: Tensor, *, clusters: int) -> Tensor:
    """Return (K, D) float64, the sum of each cluster; the same every time."""
    total_KD = torch.zeros(
        clusters, points_FD.shape[1], dtype=torch.float64, device=points_FD.device
    )
    for first in range(0, len(points_FD), _BLOCK):
        block_ND, label_N = points_FD[first : first + _BLOCK], label_F[first : first + _BLOCK]
        if points_FD.device.type == "cpu":
            total_KD.index_add_(0, label_N, block_ND.double())
        else:
            # On a GPU `index_add_` adds in the order in which threads arrive; a product does not.
            one_hot_NK = torch.nn.functional.one_hot(label_N, clusters).double()
            total_KD += one_hot_NK.T @ block_ND.double()
    return total_KD


def nearest(x_ND: Tensor, centroids_KD: Tensor) -> tuple[Tensor, Tensor]:
    """Return the nearest centroid of each row (N,) int64, and its squared distance (N,) float32."""
    labels, distances = [], []
    # Distances are differences of large squares; around the middle of the centroids they are smaller.
    middle_D = centroids_KD.mean(dim=0)
    centred_KD = centroids_KD - middle_D
    square_K = (centred_KD**2).sum(dim=1)
    with _exact_products():
        for first in range(0, max(1, len(x_ND)), _BLOCK):
            moved_ND = x_ND[first : first + _BLOCK].float() - middle_D
            distance_N, label_N = torch.addmm(square_K, moved_ND, centred_KD.T, alpha=-2).min(dim=1)
            labels.append(label_N)
            distances.append((distance_N + (moved_ND**2).sum(dim=1)).clamp(min=0))
    return torch.cat(labels), torch.cat(distances)


@contextmanager
def _exact_products() -> Iterator[None]:
    """Compute products in full float32: labels must not depend on `precision.tf32`."""
    matmul = torch.backends.cuda.matmul
    before = matmul.allow_tf32
    matmul.allow_tf32 = False
    try:
        yield
    finally:
        matmul.allow_tf32 = before
