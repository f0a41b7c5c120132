"""Smoothed curves lag behind nothing, and say so little as they have to."""

from __future__ import annotations

import numpy as np
import pytest

from tui.widgets.charts.smoothing import smooth
from tui.widgets.charts.view import SMOOTHING, View


@pytest.mark.parametrize("share", SMOOTHING.values(), ids=SMOOTHING)
def test_a_straight_line_is_left_where_it_is(share):
    line = np.linspace(5, -3, 1000)
    np.testing.assert_allclose(smooth(line, share), line, atol=1e-12)


def test_a_falling_loss_stays_inside_the_band_of_its_points():
    """A trailing mean lay above every point of its bucket: B9, a run of a million updates."""
    updates = np.arange(1000, 1_000_001, 1000)
    loss = -6 * np.log1p(updates / 3000)
    smoothed = smooth(loss, SMOOTHING["light"])
    assert smoothed[19] == pytest.approx(loss[19], abs=0.4), "at update 20 000: was 4 too high"
    np.testing.assert_allclose(smoothed[30:], loss[30:], atol=0.2)
    assert (smoothed[0], smoothed[-1]) == (loss[0], loss[-1])


def test_noise_is_averaged_over_the_share_of_the_curve_that_was_asked_for():
    noise = np.random.default_rng(0).normal(size=4000)
    for share in (1 / 40, 1 / 8):
        spread = smooth(noise, share)[500:-500].std()
        assert spread == pytest.approx(1 / np.sqrt(4000 * share), rel=0.5)
    np.testing.assert_array_equal(smooth(noise, SMOOTHING["off"]), noise)


def test_gaps_stay_gaps_and_count_for_nothing():
    values = np.array([1.0, 2.0, 3.0, np.nan, 5.0, 6.0, 7.0])
    np.testing.assert_allclose(smooth(values, 3 / 7), [1, 2, 2.5, np.nan, 5.5, 6, 7])
    explosion = np.array([1.0] * 20 + [1e30] + [1.0] * 20)
    np.testing.assert_array_equal(smooth(explosion, 3 / 41)[22:], 1.0)
    np.testing.assert_array_equal(smooth(np.full(50, np.nan), 0.5), np.full(50, np.nan))
    assert len(smooth(np.array([]), 0.5)) == 0


def test_the_key_goes_through_every_smoothing():
    view, seen = View(), []
    for _ in SMOOTHING:
        seen.append(view.smoothing)
        view = view.next_smoothing()
    assert (seen, view) == (list(SMOOTHING), View())
