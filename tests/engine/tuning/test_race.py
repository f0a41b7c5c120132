"""A race chooses by paired ratios: on times with known truth, and on devices with 10 % noise."""

from __future__ import annotations

from math import exp, inf, log, sqrt
from random import Random
from statistics import mean, stdev

import numpy as np
import pytest
from scipy.stats import t

from engine.tuning.race import Race, Ratio, compare_times, replay, run_race, trimmed_interval
from engine.tuning.search import search
from engine.tuning.setups import Options
from engine.tuning.trials import Case
from tests.engine.tuning.conftest import Noise

NUM_SEARCHES = 60


def ran(
    factors, noise: Noise | None = None, *, limit_s=60.0, reference=0, may_keep=True, cost_s=0.1
):
    """Race setups that take `factors` seconds, on a clock of `cost_s` a timing."""
    race = Race(len(factors), reference=reference, may_keep=may_keep)
    now = [0.0]
    told: list[list[tuple[int, float]]] = []

    def measure(index: int) -> float | None:
        now[0] += cost_s
        return factors[index] * (noise.factor() if noise else 1.0)

    run_race(race, measure=measure, clock=lambda: now[0], limit_s=limit_s, report=told.append)
    return race, told


def test_a_small_sample_has_the_interval_of_student() -> None:
    values = [0.1, 0.2, 0.4, 0.3]
    middle, half = trimmed_interval(np.array(values), 0.025)
    assert middle == pytest.approx(mean(values))
    assert half == pytest.approx(t.ppf(0.975, 3) * stdev(values) / 2)
    assert trimmed_interval(np.array(values[:3]), 0.025)[1] == inf


def test_a_large_sample_is_trimmed_as_tukey_and_mclaughlin_do() -> None:
    # By hand: of 10 values 2 are cut at either end, 6 are kept; winsorized: 3 3 3 4 5 6 7 8 8 8.
    values = np.array([1, 2, 3, 4, 5, 6, 7, 8, 90, 100.0])
    middle, half = trimmed_interval(values, 0.025)
    assert middle == 5.5
    squares = sum((x - 5.5) ** 2 for x in (3, 3, 3, 4, 5, 6, 7, 8, 8, 8))
    assert half == pytest.approx(t.ppf(0.975, 5) * sqrt(squares / (6 * 5)))


def test_the_interval_holds_as_often_as_it_says() -> None:
    """5 % of 2000 intervals of 30 differences with spikes miss the truth, within four standard errors."""
    noise, missed = Noise(seed=5), 0
    for _ in range(2000):
        pairs = [(noise.factor(), 1.1 * noise.factor()) for _ in range(30)]
        ratio = compare_times(*zip(*pairs, strict=True), alpha=0.025)
        missed += not ratio.low <= 1.1 <= ratio.high
    assert 0.03 < missed / 2000 < 0.07


def test_noise_that_neighbours_share_cancels() -> None:
    shared = [exp(Random(1).gauss(0, 1)) for _ in range(1)] + [3.0, 0.2, 7.0, 1.0]
    ratio = compare_times([2 * s for s in shared], [3 * s for s in shared], alpha=0.01)
    assert (ratio.low, ratio.middle, ratio.high) == pytest.approx((1.5, 1.5, 1.5))


def test_ratios_multiply_with_their_widths() -> None:
    one, other = Ratio(1.2, 1.2 / 1.03, 1.2 * 1.03, 8), Ratio(2.0, 2 / 1.04, 2 * 1.04, 5)
    both = one.times(other)
    assert (both.middle, both.rounds) == (pytest.approx(2.4), 5)
    assert log(both.high / 2.4) == pytest.approx(sqrt(log(1.03) ** 2 + log(1.04) ** 2))
    assert both.low * both.high == pytest.approx(2.4**2)


def test_the_slow_leave_and_the_time_goes_to_the_finalists() -> None:
    race, told = ran([1.0, 3.0, 0.9, 0.91], Noise(seed=3), limit_s=60.0)
    counts = [len(times) for times in race.times]
    assert counts[1] == 4
    assert max(counts[2], counts[3]) > 40
    assert race.choice().index in (2, 3)
    assert [index for index, _ in told[0]] == [0, 1, 2, 3]
    assert [index for index, _ in told[1]] == [3, 2, 1, 0]


def test_what_is_known_at_once_takes_no_more_than_the_first_look() -> None:
    race, _ = ran([1.0, 0.5, 0.8], Noise(seed=3, spread=0.01, spikes=0))
    assert (race.choice().index, race.choice().settled, race.rounds) == (1, True, 4)


def test_without_a_difference_nothing_changes() -> None:
    race, _ = ran([1.0, 1.0, 1.0], Noise(seed=8), limit_s=30.0)
    assert race.choice().index == 0
    short, _ = ran([1.0, 0.97], Noise(seed=8), limit_s=1.0)
    assert (short.choice().index, short.choice().settled) == (0, False)


def test_a_reference_that_can_not_be_kept_is_only_compared() -> None:
    race, _ = ran([0.5, 1.0, 0.8], Noise(seed=2), may_keep=False)
    assert race.choice().index == 2
    assert race.ratio(2, 0).high < 1
    absent = replay([[], [1.0] * 4, [0.8] * 4], reference=0)
    assert absent.choice().index == 2
    assert replay([[], []], reference=0).choice() is None


def test_a_setup_that_runs_out_of_memory_meanwhile_ends_alone() -> None:
    race = Race(3, reference=0)
    calls = []

    def measure(index: int) -> float | None:
        calls.append(index)
        return None if index == 1 and len(calls) > 3 else [1.0, 0.1, 0.7][index]

    run_race(race, measure=measure, clock=lambda: 0.0, limit_s=9, report=lambda times: None)
    assert race.choice().index == 2
    assert len(race.times[1]) == 1


@pytest.mark.parametrize("seed", range(20))
def test_whoever_has_the_times_comes_to_the_same_choice(seed: int) -> None:
    random = Random(seed)
    factors = [random.choice([1.0, 1.01, 0.97, 0.9, 1.3]) for _ in range(random.randint(1, 5))]
    keep = random.random() < 0.7
    race, _ = ran(factors, Noise(seed), limit_s=random.uniform(0.1, 20), may_keep=keep)
    again = replay(race.times, reference=0, may_keep=keep)
    assert again.choice() == race.choice()
    assert again.active == race.active


def test_without_time_for_rounds_the_preset_stays_and_that_is_said(new_device, make_config) -> None:
    # An update takes 8 s: no two sizes can be timed four times in 20 s.
    device = new_device(call_s=1.0, noise=Noise(1))
    config = make_config(batch={"items": 8, "micro_batch": 1})
    result = search(
        config, Options(budget_s=20), measurer=device, emit=lambda row: None, clock=device.clock
    )
    assert (result.settings, result.ratio) == ({}, None)
    assert {row.verdict for row in result.rows if row.count > 1} == {
        "undecided: only 2 rounds in the time left"
    }
    assert [note for note in result.notes if "told apart" in note]


@pytest.mark.slow
def test_a_search_on_a_noisy_device_chooses_no_slow_size(new_device, make_config) -> None:
    """10 % noise, drift, spikes: more than 3 % slower than the preset, or the fastest, in under 5 %.

    `tests/bench/tuning.py` has the numbers of more searches on more devices.
    """
    slower_than_preset = slower_than_fastest = 0
    for seed in range(NUM_SEARCHES):
        random = Random(seed)
        device = new_device(
            call_s=10 ** random.uniform(-4, -1.5), item_s=0.001, noise=Noise(seed), per_item=random.choice([20, 100, 400]) * 2**20,
        )  # fmt: skip
        config = make_config(batch={"items": 64, "micro_batch": random.choice([1, 4, 16, 64])})
        result = search(
            config,
            Options(budget_s=120),
            measurer=device,
            emit=lambda row: None,
            clock=device.clock,
        )
        seconds = {
            row.count: time_of(device, config, row.count) for row in result.rows if row.items_per_s
        }
        count = result.settings.get("batch.micro_batch", config.batch.micro_batch)
        slower_than_fastest += seconds[count] > 1.03 * min(seconds.values())
        own = seconds.get(config.batch.micro_batch)
        slower_than_preset += own is not None and seconds[count] > 1.03 * own
    assert slower_than_preset < 0.05 * NUM_SEARCHES
    assert slower_than_fastest < 0.05 * NUM_SEARCHES


def time_of(device, config, count: int) -> float:
    return device.update_s(
        Case(config.to_dict(), count, micro_batches=-(-config.batch.items // count))
    )
