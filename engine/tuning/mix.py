"""What an update is made of where items differ in length, from the batch plan of the training set.

Letters: B micro-batches, D dimensions of an item: seconds, or seconds and tokens.
"""

from __future__ import annotations

import numpy as np

from engine.batching.open_plan import open_plan
from engine.batching.report import micro_batches
from engine.config.errors import counted
from engine.config.loading import load_config
from engine.tuning.setups import Setup
from engine.tuning.trials import Part

# So many sizes of micro-batches are timed, each in place of those that are nearly as long.
_PARTS = 3
# A plan of more items takes seconds, and has the same micro-batches.
_MOST_ITEMS = 20_000


def mix_of(setup: Setup, sizes_ND: np.ndarray) -> tuple[Part, ...]:
    """Return what the updates of a setup are made of: sizes of micro-batches, and how many of each.

    The micro-batches of the plan, sorted by length, are cut into parts of equal cost in padded seconds;
    one of average length stands for each. Numbers are such that the update holds the items of
    `setup.goal`.

    Args:
        setup: its settings decide about the batches.
        sizes_ND: sizes of the training items.

    Raises:
        PlanError: when no plan fits the items.
    """
    config = load_config(setup.values)
    some_ND = _some(sizes_ND)
    counts_B, shapes_BD = micro_batches(
        open_plan(config, some_ND, manifest="", world=config.precision.devices), some_ND
    )
    order = np.argsort(shapes_BD[:, 0], kind="stable")
    counts_B, shapes_BD = counts_B[order], shapes_BD[order]
    costs_B = counts_B * shapes_BD[:, 0]
    ends_B = np.cumsum(costs_B) / costs_B.sum()
    part_B = np.minimum((ends_B * _PARTS - 1e-9).astype(int), _PARTS - 1)
    # Updates of the plan may hold another number of items than the goal.
    scale = setup.goal / counts_B.sum()
    parts = []
    for number in np.unique(part_B):
        own = np.flatnonzero(part_B == number)
        mean_s = costs_B[own].sum() / counts_B[own].sum()
        nearest = own[np.lexsort((own, -counts_B[own], abs(shapes_BD[own, 0] - mean_s)))[0]]
        times = costs_B[own].sum() / costs_B[nearest] * scale
        shape = tuple(float(x) for x in shapes_BD[nearest])
        parts.append(Part(int(counts_B[nearest]), shape, float(times)))
    return tuple(parts)


def describe_lengths(sizes_ND: np.ndarray) -> str:
    """Return the distribution of lengths in words."""
    low, middle, most, high = np.quantile(sizes_ND[:, 0], [0, 0.5, 0.95, 1])
    return (
        f"all {counted(len(sizes_ND), 'training item')} ({sizes_ND[:, 0].sum() / 3600:,.2f} h), "
        f"{low:.1f} to {high:.1f} s, median {middle:.1f} s, 95% up to {most:.1f} s"
    )


def _some(sizes_ND: np.ndarray) -> np.ndarray:
    """Return the sizes, or a random choice of so many."""
    if len(sizes_ND) <= _MOST_ITEMS:
        return sizes_ND
    return np.random.default_rng(0).choice(sizes_ND, _MOST_ITEMS, replace=False)
