"""Claims about the sample: uniform, seeded, bounded, and read from no more files than it needs."""

import numpy as np
import pytest
import torch

from engine.clustering.reservoir import Reservoir


def frames_of(item, count):
    """Frames that say where they are from."""
    return torch.stack([torch.full((count,), float(item)), torch.arange(count).float()], dim=1)


def filled(counts, *, capacity, seed, order=None):
    reservoir = Reservoir(np.array(counts), capacity=capacity, seed=seed)
    for item in order or reservoir.items:
        reservoir.put(item, frames_of(item, counts[item]))
    return reservoir


def test_every_frame_is_as_likely_as_any_other():
    counts = [1, 0, 7, 30, 2]
    hits = np.zeros((5, 30))
    for seed in range(4_000):
        for item, frame in filled(counts, capacity=8, seed=seed).points().int().tolist():
            hits[item, frame] += 1
    chosen = np.concatenate([hits[item, :count] for item, count in enumerate(counts)])
    assert chosen.sum() == 8 * 4_000
    # 800 each, with a binomial deviation of 25.
    assert np.abs(chosen - 800).max() < 5 * 25


def test_no_frame_twice_and_the_order_of_reading_changes_nothing():
    counts = [40] * 50
    points = filled(counts, capacity=300, seed=1).points()
    assert len({tuple(row) for row in points.tolist()}) == 300
    reservoir = Reservoir(np.array(counts), capacity=300, seed=1)
    again = filled(counts, capacity=300, seed=1, order=reservoir.items[::-1])
    assert torch.equal(again.points(), points)
    assert not torch.equal(filled(counts, capacity=300, seed=2).points(), points)
    # Any part of it is a sample of all files.
    assert len(points[:60, 0].unique()) > 25


def test_large_data_are_sampled_without_reading_all_of_them():
    counts = np.full(100_000, 600)
    reservoir = Reservoir(counts, capacity=3_000, seed=0)
    assert 150 < len(reservoir.items) <= 32 * 3_000 // 600
    assert max(reservoir.items) > 90_000


def test_it_holds_what_there_is_where_that_is_less():
    reservoir = filled([3, 4], capacity=100, seed=0)
    assert reservoir.capacity == 7
    assert reservoir.points().shape == (7, 2)
    with pytest.raises(ValueError, match="single frame"):
        Reservoir(np.zeros(3, np.int64), capacity=5, seed=0)


def test_it_is_not_used_before_it_is_full():
    reservoir = Reservoir(np.array([5, 5]), capacity=10, seed=0)
    reservoir.put(0, frames_of(0, 5))
    assert not reservoir.is_full
    with pytest.raises(AssertionError):
        reservoir.points()
