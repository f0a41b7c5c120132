"""Purity, cluster purity and PNMI by hand."""

from __future__ import annotations

from math import log

import numpy as np
import pytest

from engine.probing.bench import cluster_scores
from engine.probing.clusters import agreement, histogram


def test_a_small_table_by_hand():
    # Ten frames: label 0 in clusters 0 (4) and 1 (1), label 1 in cluster 1 (3) and 2 (2).
    found = agreement(np.array([[4, 1, 0], [0, 3, 2]]))
    assert found.purity == pytest.approx((4 + 3 + 2) / 10)
    assert found.cluster_purity == pytest.approx((4 + 3) / 10)
    joint = {(0, 0): 0.4, (0, 1): 0.1, (1, 1): 0.3, (1, 2): 0.2}
    cluster = {0: 0.4, 1: 0.4, 2: 0.2}
    information = sum(p * log(p / (0.5 * cluster[c])) for (_, c), p in joint.items())
    assert found.pnmi == pytest.approx(information / log(2))


def test_perfect_and_useless_clusters():
    assert agreement(np.diag([3, 4, 5])).pnmi == pytest.approx(1.0)
    useless = agreement(np.outer([1, 2, 3], [5, 5]))
    assert useless.pnmi == pytest.approx(0.0, abs=1e-12)
    assert np.isnan(agreement(np.array([[3, 4]])).pnmi)
    assert np.isnan(agreement(np.zeros((2, 2))).purity)


def test_units_add_what_leaving_them_out_takes():
    draw = np.random.default_rng(0)
    counts = {str(unit): draw.integers(1, 9, size=(3, 4)) for unit in range(5)}
    found = cluster_scores(counts)
    total = sum(counts.values())
    assert found["pnmi"].value == agreement(total).pnmi
    gap = found["pnmi"].units["1"] - found["pnmi"].units["0"]
    left = {unit: agreement(total - part).pnmi for unit, part in counts.items()}
    assert gap == pytest.approx(4 * (left["0"] - left["1"]))
    assert np.mean(list(found["purity"].units.values())) == pytest.approx(found["purity"].value)


def test_histogram_counts_frames():
    found = histogram(np.array([0, 1, 1]), np.array([2, 0, 0]), num_labels=2, num_clusters=3)
    assert found.tolist() == [[0, 0, 1], [2, 0, 0]]
