"""Intervals against SciPy, their coverage, and the planned number of trials."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.special import betaln

from jobs.listening.intervals import (
    anytime_interval,
    exact_interval,
    mean_interval,
    needed_correct,
    needed_trials,
    upper_tail,
)


@pytest.mark.parametrize("trials", [1, 2, 7, 49, 400])
def test_exact_interval_is_that_of_scipy(trials):
    for count in {0, 1, trials // 3, trials // 2, trials - 1, trials}:
        expected = stats.binomtest(count, trials).proportion_ci(0.95, "exact")
        assert exact_interval(count, trials) == pytest.approx(
            (expected.low, expected.high), abs=1e-9
        )


@pytest.mark.parametrize("interval", [exact_interval, anytime_interval])
@pytest.mark.parametrize("trials", [5, 17, 49, 120])
def test_coverage_is_at_least_95_percent_for_every_share(interval, trials):
    # Exact, no simulation: the probability of all counts whose interval has the share in it.
    ends = np.array([interval(count, trials) for count in range(trials + 1)])
    for share in np.linspace(0.005, 0.995, 199):
        covered = (ends[:, 0] <= share) & (share <= ends[:, 1])
        assert stats.binom.pmf(np.arange(trials + 1), trials, share)[covered].sum() >= 0.95


@pytest.mark.parametrize("interval", [mean_interval, anytime_interval])
@pytest.mark.parametrize("trials", [6, 20, 49])
def test_scores_of_a_half_are_covered_too(interval, trials):
    # Exact again: the distribution of twice the sum is that of one score, convolved with itself.
    ends = np.array([interval(twice / 2, trials) for twice in range(2 * trials + 1)])
    for ties in (0.0, 0.1, 0.3, 0.6, 0.9):
        for for_a in np.linspace(0.02, 0.98, 49):
            single = np.array([(1 - ties) * (1 - for_a), ties, (1 - ties) * for_a])
            masses = np.ones(1)
            for _ in range(trials):
                masses = np.convolve(masses, single)
            mean = single[2] + ties / 2
            covered = (ends[:, 0] <= mean) & (mean <= ends[:, 1])
            assert masses[covered].sum() >= 0.95


@pytest.mark.parametrize("share", [0.5, 0.6, 0.75, 0.9])
def test_anytime_interval_holds_at_all_times_at_once(share):
    listeners, trials = 20_000, 300
    hits = (np.random.default_rng(5).random((listeners, trials)) < share).cumsum(axis=1)
    n = np.arange(1, trials + 1)
    ratio = betaln(hits + 1, n - hits + 1) - hits * np.log(share) - (n - hits) * np.log(1 - share)
    ever_missed = (ratio >= np.log(20)).any(axis=1).mean()
    assert ever_missed <= 0.05
    # That the ends are where this ratio is 20.
    for k, m in ((1, 1), (3, 9), (40, 49), (120, 300)):
        for end in anytime_interval(k, m):
            if 0 < end < 1:
                at_end = betaln(k + 1, m - k + 1) - k * np.log(end) - (m - k) * np.log(1 - end)
                assert at_end == pytest.approx(np.log(20), abs=1e-9)


def test_no_trials_say_nothing():
    for interval in (exact_interval, mean_interval, anytime_interval):
        assert interval(0, 0) == (0.0, 1.0)


def test_the_default_number_of_trials_has_the_promised_power():
    trials = needed_trials()
    assert trials == 49
    assert stats.binom.sf(needed_correct(trials) - 1, trials, 0.7) >= 0.8
    for fewer in range(6, trials):
        assert stats.binom.sf(needed_correct(fewer) - 1, fewer, 0.7) < 0.8
    assert upper_tail(32, 49, share=0.7) == pytest.approx(stats.binom.sf(31, 49, 0.7), abs=1e-12)


def test_needed_correct_is_significant_and_one_less_is_not():
    for trials in range(6, 101):
        needed = needed_correct(trials)
        assert (
            stats.binom.sf(needed - 1, trials, 0.5)
            <= 0.025
            < stats.binom.sf(needed - 2, trials, 0.5)
        )
    assert needed_correct(5) > 5
