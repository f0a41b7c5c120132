"""Claims about rises under noise that lasts: how rarely noise is taken for one, and how soon a real one is found.

Series are looked at after each value, as a run is after each evaluation; all looks of a series count together.
`python -m tests.engine.training.test_rising` measures the same with 2000 series each (docs/training.md).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from engine.training.overfitting import trend
from engine.training.rising import Floats, has_risen, quarters

AFTER = 8
SIGMA = 0.007
KEEPS = (0.0, 0.3, 0.5, 0.7, 0.9)
# Exponential falls towards a plateau, in standard deviations of the noise and values.
FALLS = {"plateau": (0.0, 1.0), "fast": (100.0, 10.0), "slow": (10.0, 50.0)}


def noise(num: int, count: int, *, keeps: float, seed: int = 0) -> Floats:
    """Return series of standard deviation 1 that keep a share of each value in the next."""
    draw = np.random.default_rng([seed, round(100 * keeps), count]).normal(size=(num, count))
    values = draw.copy()
    for at in range(1, count):
        values[:, at] = keeps * values[:, at - 1] + np.sqrt(1 - keeps**2) * draw[:, at]
    return values


def found_at(value_RN: Floats, rule: Callable[[Floats], Any]) -> Any:
    """Return after how many values each series is first found to rise; infinite where it never is."""
    at_R = np.full(len(value_RN), np.inf)
    for count in range(AFTER, value_RN.shape[1] + 1):
        found = rule(value_RN[:, :count])
        at_R[found & np.isinf(at_R)] = count
    return at_R


def new_rule(value_RN: Floats) -> Any:
    """Return what `OverfitWatch` asks of validation, without the smallest difference that counts."""
    return has_risen(value_RN, after=AFTER).any(axis=1)


def old_rule(value_RN: Floats) -> Any:
    """Return what was asked before: Mann and Kendall's statistic above 3.3, and thirds 1 % apart."""
    found = np.zeros(len(value_RN), dtype=bool)
    for steps in (AFTER, 2 * AFTER, 4 * AFTER):
        if value_RN.shape[1] > steps:
            last, third = value_RN[:, -steps - 1 :], (steps + 1) // 3
            first = np.maximum(value_RN.min(axis=1), last[:, :third].mean(axis=1))
            apart = last[:, -third:].mean(axis=1) - first > 0.01 * np.abs(value_RN.min(axis=1))
            found |= apart & (np.array([trend(row) for row in last]) > 3.3)
    return found


def without_a_rise(num: int, count: int, *, keeps: float, fall: str) -> Floats:
    height, pace = FALLS[fall]
    drift = height * np.exp(-np.arange(count) / pace)
    return 2 * (1 + SIGMA * (drift + noise(num, count, keeps=keeps)))


def with_a_rise(num: int, *, slope: float, keeps: float, low: int = 40, count: int = 120) -> Floats:
    """Return losses that fall fast, are lowest after `low` values, and then rise by a share of 2 each time."""
    at = np.arange(count)
    shape = np.where(
        at < low, np.exp(-at / 10) - np.exp(-low / 10), 2 * slope * np.maximum(0, at - low)
    )
    return 2 + shape + 2 * SIGMA * noise(num, count, keeps=keeps, seed=1)


@pytest.mark.parametrize("keeps", KEEPS)
def test_noise_that_lasts_is_rarely_taken_for_a_rise(keeps):
    """At most 5 % of whole series, at every length; of 2000 plateaus with 0.9 kept it was 3.3 % at most."""
    for count, fall in ((10, "plateau"), (30, "plateau"), (100, "plateau"), (100, "slow")):
        series = without_a_rise(300, count, keeps=keeps, fall=fall)
        share = float(np.mean(np.isfinite(found_at(series, new_rule))))
        assert share <= 0.05, (count, fall)
        if keeps <= 0.5:
            assert share <= 0.02, (count, fall)


@pytest.mark.parametrize(
    ("slope", "within", "of_all"), [(0.05, 6, 0.99), (0.02, 12, 0.95), (0.01, 28, 0.95)]
)
@pytest.mark.parametrize("keeps", [0.0, 0.7])
def test_a_rise_is_found(slope, within, of_all, keeps):
    """Noise of 0.7 % of the loss: 0.1 to 0.7 of what it rises by each time."""
    at = found_at(with_a_rise(100, slope=slope, keeps=keeps, count=70), new_rule)
    assert np.mean(at <= 40) <= 0.02, "before it rises"
    assert np.mean(at <= 40 + within) >= of_all


def test_the_rule_before_took_noise_that_lasts_for_a_rise():
    """So these series can show the difference."""
    series = without_a_rise(40, 60, keeps=0.7, fall="plateau")
    assert np.mean(np.isfinite(found_at(series, old_rule))) > 0.2
    assert np.mean(np.isfinite(found_at(series, new_rule))) <= 0.05


def test_one_bad_value_is_no_rise_and_a_step_that_stays_is():
    flat = 2 + 0.001 * noise(20, 60, keeps=0.0)
    spike, step = flat.copy(), flat.copy()
    spike[:, 40] += 1.0
    step[:, 40:] += 1.0
    assert not np.isfinite(found_at(spike, new_rule)).any()
    assert (found_at(step, new_rule) <= 46).all()


def test_without_noise_any_rise_counts_and_nothing_else():
    up, down = 1 + 1e-3 * np.arange(8.0), np.exp(-np.arange(200) / 40)
    assert has_risen(up[None], after=AFTER).any()
    for value in (down, np.ones(200)):
        assert np.isinf(found_at(value[None], new_rule)).all()


@pytest.mark.parametrize(
    ("count", "after", "sizes"),
    [(7, 8, []), (8, 8, [2]), (31, 8, [2, 4]), (32, 8, [2, 4, 8]), (11, 10, []), (12, 10, [3])],
)
def test_a_quarter_is_a_fourth_of_the_setting_and_doubles(count, after, sizes):
    assert quarters(count, after=after) == sizes


def measure(num: int = 2000) -> None:
    """Print the tables of docs/training.md."""
    warnings.simplefilter("ignore")
    for fall in FALLS:
        for count in (10, 20, 50, 100, 200):
            shares = [
                np.isfinite(found_at(without_a_rise(num, count, keeps=keeps, fall=fall), new_rule)).mean()
                for keeps in KEEPS
            ]  # fmt: skip
            print(fall, count, *(f"{100 * share:.2f} %" for share in shares))
    for rule, some in ((new_rule, 300), (old_rule, 100)):
        for keeps in (0.0, 0.5, 0.7, 0.9):
            for slope in (0.0, 0.0025, 0.005, 0.01, 0.02, 0.05):
                at = found_at(with_a_rise(some, slope=slope, keeps=keeps), rule)
                late = at[at > 40] - 40
                print(
                    rule.__name__, keeps, slope, f"early {np.mean(at <= 40):.1%}",
                    f"found {np.isfinite(late).mean():.0%}", f"median {np.median(late):.0f}",
                    f"90 % {np.quantile(late, 0.9):.0f}",
                )  # fmt: skip


if __name__ == "__main__":
    measure()
