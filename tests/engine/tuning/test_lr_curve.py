"""What a range test says of curves whose answer is known: learning, flat, diverging, noisy, monotone."""

from __future__ import annotations

import math

import numpy as np
import pytest

from engine.tuning.lr_curve import LrPoint, find, has_diverged, range_of, smoothed

LOW, HIGH, COUNT = 1e-6, 1.0, 150


def points_of(losses: np.ndarray, *, low: float = LOW, high: float = HIGH) -> list[LrPoint]:
    lrs = range_of(low, high, updates=len(losses))
    return [LrPoint(lr, float(loss)) for lr, loss in zip(lrs, losses, strict=True)]


def typical(
    steep: float,
    diverges: float,
    *,
    noise: float,
    seed: int = 0,
    base: float = 5.0,
    depth: float = 3.0,
) -> list[LrPoint]:
    """Return a loss that falls most steeply at `steep`, and is back at its start near `diverges`."""
    x = np.log10(range_of(LOW, HIGH, updates=COUNT))
    fall = depth / (1 + np.exp(-(x - math.log10(steep)) * 4))
    rise = depth * np.exp(np.minimum((x - math.log10(diverges)) * 6, 30))
    drawn = np.random.default_rng(seed).normal(0, noise, COUNT)
    return points_of(base - fall + rise + drawn)


def test_learning_rates_grow_in_equal_ratios():
    lrs = range_of(1e-5, 1e-1, updates=5)
    assert lrs == pytest.approx([1e-5, 1e-4, 1e-3, 1e-2, 1e-1], rel=1e-12)


@pytest.mark.parametrize("base", [5.0, -20.0])
@pytest.mark.parametrize("seed", range(5))
def test_the_suggestion_lies_between_the_middle_of_the_fall_and_what_is_too_much(seed, base):
    for steep, diverges in ((1e-4, 0.1), (1e-3, 0.3), (1e-3, 0.05)):
        finding = find(typical(steep, diverges, noise=0.1, seed=seed, base=base))
        assert finding.suggestion is not None
        assert steep / 2 < finding.suggestion
        assert finding.minimum is not None
        assert finding.divergence is not None
        assert diverges / 2 < finding.divergence < diverges * 3
        assert finding.suggestion <= finding.minimum / 2.9
        assert finding.suggestion <= finding.divergence / 9.9


def test_a_shift_and_a_scale_of_the_loss_change_nothing():
    one = find(typical(1e-3, 0.1, noise=0.1))
    scaled = [LrPoint(p.lr, 1000 * p.loss - 7e4) for p in typical(1e-3, 0.1, noise=0.1)]
    assert find(scaled).suggestion == one.suggestion


@pytest.mark.parametrize("count", [60, 150, 400])
def test_a_flat_loss_gives_no_answer(count):
    """Of 200 flat curves at most 5 have one: 1 % are expected, whatever the shape of the noise."""
    for draw in ("normal", "gamma"):
        wrong = 0
        for seed in range(200):
            rng = np.random.default_rng([count, seed])
            noise = rng.normal(0, 0.3, count) if draw == "normal" else rng.gamma(1.5, 0.3, count)
            finding = find(points_of(4.0 + noise))
            wrong += finding.suggestion is not None
            assert finding.suggestion is not None or finding.reason
        assert wrong <= 5
    finding = find(points_of(4.0 + np.random.default_rng(0).normal(0, 0.3, count)))
    assert "did not fall clearly" in finding.reason
    assert finding.divergence is None


def test_a_constant_loss_gives_no_answer():
    assert find(points_of(np.full(COUNT, 2.0))).suggestion is None


@pytest.mark.parametrize("seed", range(5))
def test_a_fall_within_the_noise_before_a_late_divergence_asks_for_more_updates(seed):
    """A lower start of the range would not help: below the divergence the loss had room to fall."""
    flat = 4.0 + np.random.default_rng(seed).normal(0, 0.3, 60)
    finding = find(points_of(flat + np.exp(np.linspace(-40, 5, 60))))
    assert finding.suggestion is None
    assert finding.divergence is not None
    assert "did not fall clearly before it diverges at " in finding.reason
    assert finding.reason.endswith("use more --updates or a larger batch")


@pytest.mark.parametrize("seed", range(5))
def test_a_loss_that_diverges_at_once_asks_for_a_lower_start(seed):
    rising = 4.0 * np.exp(np.linspace(0, 6, COUNT)) + np.random.default_rng(seed).normal(
        0, 0.1, COUNT
    )
    finding = find(points_of(rising))
    assert finding.suggestion is None
    assert finding.reason.endswith("lower --min")
    early = np.r_[np.linspace(5, 3, 10), np.full(3, 3.0), np.linspace(3, 40, COUNT - 13)]
    finding = find(points_of(early))
    assert finding.suggestion is None
    assert finding.reason.endswith("lower --min")


def test_a_loss_that_only_falls_has_a_suggestion_and_asks_for_more():
    finding = find(points_of(5 - 3 * np.linspace(0, 1, COUNT) ** 2))
    assert finding.divergence is None
    assert finding.suggestion is not None
    assert "a higher --max may suggest more" in finding.reason


@pytest.mark.parametrize("seed", range(5))
def test_noise_as_large_as_half_of_the_fall_moves_it_by_less_than_a_decade(seed):
    finding = find(typical(1e-3, 0.2, noise=1.5, seed=seed))
    if finding.suggestion is None:
        assert finding.reason
    else:
        assert 1e-4 < finding.suggestion < 2e-2


def test_updates_that_are_not_finite_are_left_out_and_end_it():
    points = typical(1e-3, 0.5, noise=0.05)
    cut = [LrPoint(p.lr, math.nan if p.lr > 0.05 else p.loss) for p in points]
    finding = find(cut)
    assert finding.divergence == pytest.approx(0.05, rel=0.1)
    assert finding.suggestion is not None
    assert finding.suggestion <= finding.divergence / 9.9
    holes = [LrPoint(p.lr, math.nan if i % 9 == 4 else p.loss) for i, p in enumerate(points)]
    assert find(holes).suggestion == pytest.approx(find(points).suggestion, rel=0.6)
    nothing = [LrPoint(p.lr, math.nan) for p in points]
    finding = find(nothing)
    assert (finding.suggestion, finding.divergence) == (None, LOW)
    assert "not finite from 1e-06 on" in finding.reason
    assert has_diverged(cut)
    assert not has_diverged(holes[:100])


def test_few_updates_are_said_to_be_too_few():
    finding = find(points_of(np.linspace(5, 3, 12)))
    assert finding.suggestion is None
    assert finding.reason == "only 12 updates; at least 20 are needed"


def test_a_single_peak_counts_for_nothing():
    points = typical(1e-3, 0.2, noise=0.02)
    peaked = [
        LrPoint(p.lr, p.loss + (1e4 if i in (30, 60, 90) else 0)) for i, p in enumerate(points)
    ]
    assert find(peaked).suggestion == pytest.approx(find(points).suggestion, rel=0.3)
    assert not has_diverged(peaked[:70])


def test_a_test_ends_once_the_loss_is_far_above_its_start():
    points = typical(1e-3, 0.05, noise=0.05)
    ends = next(count for count in range(1, COUNT) if has_diverged(points[:count]))
    assert 0.05 < points[ends].lr < 0.5
    assert not any(has_diverged(points_of(np.full(COUNT, 3.0))[:count]) for count in range(COUNT))


def test_smoothing_keeps_a_line_and_measures_its_noise():
    line = np.linspace(1, 2, 200)
    off, at_start, told = [], [], []
    for seed in range(40):
        drawn = line + np.random.default_rng(seed).normal(0, 0.1, 200)
        smooth, noise = smoothed(drawn)
        off += (smooth - line)[20:-20].tolist()
        at_start.append(float(np.median(drawn[:20] - line[:20])))
        told.append(noise)
    assert np.abs(off).max() < 0.12
    assert np.mean(told) == pytest.approx(float(np.hypot(np.std(off), np.std(at_start))), rel=0.25)
