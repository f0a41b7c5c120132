"""The algorithms beneath the plans, each against a slow and obvious one."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine.batching.buckets import (
    by_duration,
    dense_outliers,
    estimated_by_both,
    estimated_by_duration,
    given_by_both,
)
from engine.batching.closing import Cost, close_batches, halved
from engine.batching.edges import closed_edges, equal_mass_edges, snapped
from engine.batching.packing import pack
from tests.engine.batching.lengths import item_sizes


def closed_one_by_one(
    sizes: np.ndarray, lanes: list[int], *, cost: Cost, cap: float, most: int
) -> list[int]:
    starts = []
    for first, end in pairwise([*lanes, len(sizes)]):
        at = first
        while at < end:
            starts.append(at)
            count = 1
            while at + count < end and count < most:
                longest = sizes[at : at + count + 1].max(axis=0)
                if float(cost.of(longest)) * (count + 1) > cap * (1 + 1e-9):
                    break
                count += 1
            at += count
    return starts


@settings(max_examples=80, deadline=None)
@given(st.data(), st.booleans(), st.floats(5, 200), st.integers(1, 90))
def test_batches_close_when_the_next_item_does_not_fit(
    data: st.DataObject, tokens: bool, cap: float, most: int
) -> None:
    sizes = data.draw(item_sizes(tokens=tokens))
    cost = Cost(data.draw(st.sampled_from([None, 15.0])), 50.0 if tokens else None)
    cuts = data.draw(st.sets(st.integers(0, len(sizes) - 1), max_size=4))
    lanes = sorted({0, *cuts})
    found = close_batches(sizes, np.array(lanes), cost=cost, cap=cap, most=most)
    assert found.tolist() == closed_one_by_one(sizes, lanes, cost=cost, cap=cap, most=most)


def test_long_lanes_are_cut_and_still_hold_the_cap() -> None:
    sizes = np.random.default_rng(0).uniform(1, 20, (50_000, 1))
    starts = close_batches(sizes, np.zeros(1, int), cost=Cost(), cap=100.0, most=4096)
    one_lane = closed_one_by_one(sizes[:20_000], [0], cost=Cost(), cap=100.0, most=4096)
    counts = np.diff(np.append(starts, len(sizes)))
    longest = np.maximum.reduceat(sizes[:, 0], starts)
    assert (counts * longest <= 100.0 + 1e-6).all()
    assert len(starts) == pytest.approx(len(one_lane) * 2.5, rel=0.01)


def test_halving_makes_more_batches_of_the_largest() -> None:
    assert halved(np.array([0, 2, 3]), 10, extra=1).tolist() == [0, 2, 3, 7]
    assert halved(np.array([0, 1]), 2, extra=3).tolist() == [0, 1]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([1.0, 2.0, 2.5, 4.0, 7.0]), min_size=1, max_size=9),
    st.floats(6, 20),
    st.integers(1, 6),
)
# The cheapest start is within a run of equal items, since the next micro-batch is full.
@example(costs=[1.0, 1.0, 2.5, 2.5, 2.5, 2.5, 4.0], cap=12.0, most=3)
def test_one_rank_gets_the_cheapest_micro_batches(
    costs: list[float], cap: float, most: int
) -> None:
    costs.sort(reverse=True)
    (batches,) = pack(costs, cap=cap, most=most, world=1)
    fewest = len(closed_one_by_one(np.array(costs)[:, None], [0], cost=Cost(), cap=cap, most=most))
    cheapest = min(
        sum(costs[low] * (high - low) for low, high in pairwise(places))
        for cuts in range(2 ** (len(costs) - 1))
        if len(places := [0, *(i + 1 for i in range(len(costs)) if cuts >> i & 1), len(costs)])
        <= fewest + 1
        if all(
            high - low <= most and (high - low == 1 or costs[low] * (high - low) <= cap)
            for low, high in pairwise(places)
        )
    )
    assert len(batches) == fewest
    assert sum(batch.cost for batch in batches) == pytest.approx(cheapest)


def test_ranks_get_equally_many_micro_batches_of_all_items() -> None:
    random = np.random.default_rng(1)
    costs = sorted(random.uniform(1, 17, 1000).tolist(), reverse=True)
    ranks = pack(costs, cap=320.0, most=4096, world=8)
    work = [sum(batch.cost for batch in rank) for rank in ranks]
    assert 1 - np.mean(work) / max(work) < 0.005
    assert len({len(rank) for rank in ranks}) == 1
    places = sorted((b.first, b.first + b.count) for rank in ranks for b in rank)
    assert [low for low, _ in places] == [0, *(high for _, high in places[:-1])]
    assert places[-1][1] == 1000


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.1, 40), min_size=1, max_size=60), st.integers(1, 12))
def test_edges_rise_to_the_longest_and_are_as_few_as_asked(values: list[float], count: int) -> None:
    sizes = np.array(values)
    for edges in (closed_edges(sizes, count), equal_mass_edges(sizes, count)):
        assert 1 <= len(edges) <= count
        assert (np.diff(edges) > 0).all()
        assert edges[-1] == sizes.max()
        assert set(edges) <= set(values)


def test_closed_edges_waste_less_than_equal_mass() -> None:
    sizes = np.round(np.random.default_rng(0).gamma(4, 3, 50_000), 2)
    waste = [
        1 - sizes.sum() / edges[snapped(sizes, edges)].sum()
        for edges in (closed_edges(sizes, 100), equal_mass_edges(sizes, 100))
    ]
    assert waste[0] < 0.7 * waste[1]
    assert waste[0] < 0.015


def test_few_different_sizes_are_their_own_edges() -> None:
    sizes = np.array([3.0, 1.0, 3.0, 2.0])
    assert closed_edges(sizes, 100).tolist() == [1.0, 2.0, 3.0]


def test_a_table_of_cells_finds_the_same_edge_as_a_search() -> None:
    random = np.random.default_rng(0)
    edges = np.unique(np.round(random.gamma(4, 3, 200), 3))
    sizes = np.concatenate([np.round(random.gamma(4, 3, 40_000), 3), edges, [0.0, 1e6]])
    assert (snapped(sizes, edges) == np.searchsorted(edges, sizes)).all()


def test_buckets_by_duration_hold_equal_time_and_count_what_fits_none() -> None:
    sizes = np.random.default_rng(0).uniform(1, 20, (10_000, 1))
    buckets = estimated_by_duration(sizes, 10)
    time_s = np.bincount(buckets.of_item, weights=sizes[:, 0])
    assert time_s == pytest.approx(np.full(10, sizes.sum() / 10), rel=0.01)
    few = by_duration(np.array([[1.0], [2.0], [2.1], [9.0]]), np.array([2.0, 5.0]))
    assert few.of_item.tolist() == [0, 0, 1, -1]


def test_buckets_by_both_hold_equal_tokens_inside_a_duration() -> None:
    random = np.random.default_rng(0)
    sizes = np.stack([random.uniform(1, 20, 20_000), random.integers(1, 200, 20_000)], axis=1)
    buckets = estimated_by_both(sizes, 5, token_count=4)
    assert buckets.num_buckets == 20
    assert (sizes <= buckets.ends[buckets.of_item]).all()
    tokens = np.bincount(buckets.of_item, weights=sizes[:, 1]).reshape(5, 4)
    assert tokens == pytest.approx(np.repeat(tokens.mean(axis=1)[:, None], 4, axis=1), rel=0.05)


def test_given_buckets_take_an_item_into_the_smallest_that_holds_it() -> None:
    ends = np.array([[10.0, 80.0], [5.0, 20.0], [5.0, 40.0]])
    sizes = np.array([[4.0, 15.0], [4.0, 30.0], [4.0, 70.0], [10.0, 81.0], [5.0, 20.0]])
    assert given_by_both(sizes, ends).of_item.tolist() == [1, 2, 0, -1, 1]


def test_text_that_hardly_fits_its_audio_is_found() -> None:
    seconds = np.full(200, 10.0)
    tokens = 50.0 + np.arange(200) % 7
    tokens[13] = 400.0
    assert dense_outliers(np.stack([seconds, tokens], axis=1)).tolist() == [13]
    assert len(dense_outliers(seconds[:, None])) == 0
