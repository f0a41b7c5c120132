"""ABX errors, by brute force over triplets and paths; what a unit adds, by leaving it out."""

from __future__ import annotations

from itertools import product
from math import acos, pi

import numpy as np
import pytest

from engine.probing.abx import MOST_ITEMS, AbxItem, abx, errors_of, sampled
from engine.probing.dtw import distances, unit_frames


def slow_distance(a_LD, b_LD):
    """Return the mean cost along the cheapest path, by the plain recursion."""
    rows, columns = len(a_LD), len(b_LD)

    def cost(i, j):
        a, b = a_LD[i], b_LD[j]
        return acos(np.clip(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)), -1, 1)) / pi

    best = {}
    for i, j in product(range(rows), range(columns)):
        before = [best[p] for p in ((i - 1, j - 1), (i - 1, j), (i, j - 1)) if p in best]
        total, steps = min(before, key=lambda found: found[0]) if before else (0.0, 0)
        best[i, j] = total + cost(i, j), steps + 1
    total, steps = best[rows - 1, columns - 1]
    return total / steps


def slow_errors(distance_NN, items):
    """Average over cells of (speakers, labels) the errors of their triplets."""
    cells: dict[tuple, list[float]] = {}
    places = range(len(items))
    for a, b, x in product(places, places, places):
        one, two, third = items[a], items[b], items[x]
        if a == x or one.label != third.label or one.label == two.label:
            continue
        if one.speaker != two.speaker:
            continue
        near, far = distance_NN[a, x], distance_NN[b, x]
        key = (one.speaker, third.speaker, one.label, two.label)
        cells.setdefault(key, []).append(float(near > far) + 0.5 * float(near == far))
    within = [np.mean(of) for key, of in cells.items() if key[0] == key[1]]
    across = [np.mean(of) for key, of in cells.items() if key[0] != key[1]]
    return np.mean(within), np.mean(across)


@pytest.fixture
def words():
    draw = np.random.default_rng(0)
    items, frames = [], []
    for speaker, label, take in product("ab", "xyz", range(3)):
        items.append(AbxItem(label, speaker, f"{speaker} {take}"))
        base = np.zeros(5)
        base["xyz".index(label)] = 1.0
        length = int(draw.integers(2, 7))
        frames.append(base + draw.normal(size=(length, 5)) * 0.7)
    return items, frames


def test_distances_are_those_of_the_plain_recursion(words):
    _, frames = words
    pairs = [(i, j) for i in range(len(frames)) for j in range(i)]
    found = distances([unit_frames(item) for item in frames], pairs)
    expected = [slow_distance(frames[i], frames[j]) for i, j in pairs]
    assert found == pytest.approx(expected, abs=1e-12)
    same = distances([unit_frames(item) for item in frames], [(3, 3)])
    assert same == pytest.approx([0.0], abs=1e-7)


def test_errors_are_those_of_all_triplets(words):
    items, frames = words
    units = [unit_frames(item) for item in frames]
    distance_NN = np.array([[distances(units, [(i, j)])[0] for j in range(18)] for i in range(18)])
    within, across = slow_errors((distance_NN + distance_NN.T) / 2, items)
    found = abx(frames, items)
    assert found.within.value == pytest.approx(within)
    assert found.across.value == pytest.approx(across)
    assert 0 < within < 0.5


def test_what_a_unit_adds_follows_from_leaving_it_out(words):
    items, _ = words
    draw = np.random.default_rng(1)
    distance_NN = np.abs(draw.normal(size=(18, 18)))
    distance_NN += distance_NN.T
    found = errors_of(distance_NN, items)
    for side, estimate in enumerate((found.within, found.across)):
        assert np.mean(list(estimate.units.values())) == pytest.approx(estimate.value)
        without = {}
        for unit in estimate.units:
            kept = [k for k, item in enumerate(items) if item.unit != unit]
            rest = slow_errors(distance_NN[np.ix_(kept, kept)], [items[k] for k in kept])
            without[unit] = rest[side]
        first, second = sorted(estimate.units)[:2]
        gap = estimate.units[first] - estimate.units[second]
        assert gap == pytest.approx((len(without) - 1) * (without[second] - without[first]))


def test_equal_frames_are_a_coin_toss_and_one_word_has_no_error():
    items = [AbxItem(label, "a", f"{label}{k}") for label in "xy" for k in range(3)]
    frames = [np.ones((4, 3)) for _ in items]
    assert abx(frames, items).within.value == 0.5
    assert abx(frames, items).across is None
    assert abx(frames[:3], items[:3]).within is None


def test_a_sample_of_many_items_is_seeded_and_even():
    items = [AbxItem(str(k % 7), f"s{k % 3}", str(k)) for k in range(5 * MOST_ITEMS)]
    chosen = sampled(items, seed=3)
    assert len(chosen) == len(set(chosen)) == MOST_ITEMS
    assert chosen == sampled(items, seed=3) != sampled(items, seed=4)
    counts = np.unique(
        [f"{items[k].label} {items[k].speaker}" for k in chosen], return_counts=True
    )[1]
    assert len(counts) == 21
    assert counts.max() - counts.min() <= 1
