"""ABX error: how often an item of another word is nearer to X than one of the same word is.

In a triplet, A and X have the same label, B has another, and A and B one speaker: that of X (within
speakers) or another (across). The error of a triplet is 1 where d(A, X) > d(B, X), 1/2 where they are
equal. It is averaged over the triplets of a cell (speakers, two labels), then over cells. Source:
Schatz et al. 2013; distances are those of `engine.probing.dtw`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from engine.probing.dtw import distances, unit_frames
from engine.probing.units import Estimate, jackknifed

# All items are used up to so many: 45 000 distances. Of more, a seeded sample is taken; so with cells.
MOST_ITEMS = 300
MOST_CELLS = 3_000


@dataclass(frozen=True, slots=True)
class AbxItem:
    """What is known of an item beside its frames; `unit` is what intervals are resampled by."""

    label: str
    speaker: str
    unit: str


@dataclass(frozen=True, slots=True)
class AbxErrors:
    """Errors within and across speakers; None where no triplet can be made."""

    within: Estimate | None
    across: Estimate | None


def abx(frames: Sequence[np.ndarray], items: Sequence[AbxItem]) -> AbxErrors:
    """Return the errors of all triplets of items.

    Args:
        frames: of each item, (L, D).
        items: what they are.
    """
    units = [unit_frames(frames_LD) for frames_LD in frames]
    upper = np.triu_indices(len(items), k=1)
    distance_NN = np.zeros((len(items), len(items)))
    distance_NN[upper] = distances(units, np.stack(upper, axis=1))
    distance_NN += distance_NN.T
    return errors_of(distance_NN, items)


def errors_of(distance_NN: np.ndarray, items: Sequence[AbxItem]) -> AbxErrors:
    """Return the errors by the distances between all items, which must be symmetric."""
    cells = _cells(items)
    unit_N = np.array([item.unit for item in items])
    return AbxErrors(
        _mean_over(_some(list(_within(cells))), distance_NN, unit_N=unit_N),
        _mean_over(_some(list(_across(cells))), distance_NN, unit_N=unit_N),
    )


def sampled(items: Sequence[AbxItem], *, most: int = MOST_ITEMS, seed: int = 0) -> list[int]:
    """Return the places of the items to use: all, or a seeded sample of `most`, even over labels and speakers."""
    if len(items) <= most:
        return list(range(len(items)))
    draw = np.random.default_rng(seed)
    cells = {key: draw.permutation(places) for key, places in sorted(_cells(items).items())}
    # Round after round one of each cell, in an order of its own, until there are enough.
    keys = [list(cells)[place] for place in draw.permutation(len(cells))]
    rounds = range(max(map(len, cells.values())))
    chosen = (int(cells[key][k]) for k in rounds for key in keys if k < len(cells[key]))
    return sorted(place for place, _ in zip(chosen, range(most), strict=False))


_Cell = tuple[np.ndarray, np.ndarray, np.ndarray]  # places of A, B and X


def _cells(items: Sequence[AbxItem]) -> dict[tuple[str, str], np.ndarray]:
    found: dict[tuple[str, str], list[int]] = defaultdict(list)
    for place, item in enumerate(items):
        found[item.speaker, item.label].append(place)
    return {key: np.array(places) for key, places in found.items()}


def _within(cells: dict[tuple[str, str], np.ndarray]) -> Iterator[_Cell]:
    for (speaker, label), (other_speaker, other) in permutations(sorted(cells), 2):
        if speaker == other_speaker and len(cells[speaker, label]) > 1:
            same = cells[speaker, label]
            yield same, cells[speaker, other], same


def _across(cells: dict[tuple[str, str], np.ndarray]) -> Iterator[_Cell]:
    for (speaker, label), (other_speaker, other) in permutations(sorted(cells), 2):
        if speaker != other_speaker or label == other:
            continue
        for third in sorted({name for name, of in cells if of == label and name != speaker}):
            yield cells[speaker, label], cells[speaker, other], cells[third, label]


def _some(cells: Sequence[_Cell]) -> Sequence[_Cell]:
    if len(cells) <= MOST_CELLS:
        return cells
    chosen = np.random.default_rng(0).choice(len(cells), MOST_CELLS, replace=False)
    return [cells[place] for place in sorted(chosen.tolist())]


def _mean_over(
    cells: Sequence[_Cell], distance_NN: np.ndarray, *, unit_N: np.ndarray
) -> Estimate | None:
    """Return the mean over cells, and over the cells that are left without each unit."""
    if not cells:
        return None
    names, number_N = np.unique(unit_N, return_inverse=True)
    means = np.empty(len(cells))
    # Without a unit, a cell that does not hold it stays as it is.
    sums_U, counts_U = np.zeros(len(names)), np.zeros(len(names))
    for row, (a, b, x) in enumerate(cells):
        near_AX, far_BX = distance_NN[np.ix_(a, x)], distance_NN[np.ix_(b, x)]
        error_ABX = (near_AX[:, None] > far_BX[None]) + 0.5 * (near_AX[:, None] == far_BX[None])
        valid_ABX = np.broadcast_to((a[:, None] != x[None])[:, None], error_ABX.shape)
        means[row] = error_ABX[valid_ABX].mean()
        for unit in np.unique(number_N[np.concatenate([a, b, x])]):
            left = valid_ABX[np.ix_(*(number_N[part] != unit for part in (a, b, x)))]
            errors = error_ABX[np.ix_(*(number_N[part] != unit for part in (a, b, x)))]
            sums_U[unit] -= means[row]
            counts_U[unit] -= 1
            if left.any():
                sums_U[unit] += errors[left].mean()
                counts_U[unit] += 1
    sums_U, counts_U = sums_U + means.sum(), counts_U + len(cells)
    without_U = np.divide(sums_U, counts_U, out=np.full(len(names), np.nan), where=counts_U > 0)
    return jackknifed(float(means.mean()), dict(zip(names.tolist(), without_U, strict=True)))
