"""The interval of a difference: by hand where that can be done, else by how often it is right."""

from __future__ import annotations

import numpy as np
import pytest

from jobs.comparison.bootstrap import paired_difference


def test_a_constant_gap_is_certain():
    first = np.array([[1.0, 5.0, -3.0, 10.0] * 3])
    found = paired_difference(first, first + 0.5)
    assert (found.mean, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5))
    assert found.is_shown
    assert (found.num_items, found.num_runs) == (12, (1, 1))


def test_few_items_show_nothing():
    first = np.array([[1.0, 5.0, -3.0]])
    found = paired_difference(first, first + 0.5)
    assert found.low > 0
    assert not found.is_shown


def test_pairing_removes_what_is_hard_about_the_items():
    """Items differ by 20 dB, the variants by 0.2 on each: unpaired, nothing could be seen."""
    generator = np.random.default_rng(0)
    hard = generator.normal(0, 20, size=(1, 50))
    found = paired_difference(hard, hard + 0.2 + generator.normal(0, 0.1, size=(1, 50)))
    assert found.is_shown
    assert 0.1 < found.low < found.mean < found.high < 0.3


def test_equal_variants_show_no_difference():
    values = np.random.default_rng(0).normal(size=(2, 30))
    found = paired_difference(values, values)
    assert found.mean == 0
    assert found.low < 0 < found.high
    assert not paired_difference(values[:1], values[:1]).is_shown


def test_the_interval_of_one_run_a_side_is_that_of_the_normal_law():
    """Deviations of +-1 in equal numbers: a standard error of 1 / sqrt(N - 1)."""
    gap = np.tile([1.0, -1.0], 200)[None]
    found = paired_difference(np.zeros_like(gap), gap, resamples=20_000)
    expected = 1.96 / 399**0.5
    assert (found.low, found.high) == pytest.approx((-expected, expected), rel=0.05)


def test_a_shift_of_whole_runs_widens_the_interval():
    """All items of a run move together: 400 items say no more about seeds than one does."""
    items = np.random.default_rng(0).normal(0, 0.1, size=(1, 400))
    shifts = np.array([[-0.5], [0.5]])
    one = paired_difference(items, items + 0.2)
    several = paired_difference(items + shifts, items + shifts + 0.2)
    assert one.is_shown
    assert several.mean == pytest.approx(0.2)
    assert not several.is_shown
    assert several.high - several.low > 1


def test_items_without_a_value_are_left_out_of_both():
    first = np.array([[1.0, np.nan, 3.0, 4.0]])
    second = np.array([[2.0, 50.0, np.nan, 5.0]])
    found = paired_difference(first, second)
    assert (found.mean, found.num_items) == (1.0, 2)
    assert paired_difference(first[:, :2], second[:, :2]) is None


def test_equal_questions_get_equal_answers():
    first, second = np.random.default_rng(1).normal(size=(2, 3, 40))
    assert paired_difference(first, second) == paired_difference(first, second)
    assert paired_difference(first, second) != paired_difference(first, second, seed=1)


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    generator = np.random.default_rng(2)
    held = 0
    for _ in range(200):
        first, second = generator.normal(size=(2, 1, 40))
        found = paired_difference(first, second + 0.3, resamples=500)
        held += found.low <= 0.3 <= found.high
    assert 180 <= held <= 198
