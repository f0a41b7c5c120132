"""Claims about texts that do not belong to their audio: found among honest ones, and no honest one accused."""

from __future__ import annotations

import numpy as np
import pytest

from engine.data.corpus.pace import odd_ones


def spoken(draw: np.random.Generator, number: int, rate_s: float) -> tuple[list[int], list[float]]:
    counts = draw.integers(3, 150, number)
    return counts.tolist(), (
        (0.15 + rate_s * counts) * np.exp(0.12 * draw.standard_normal(number))
    ).tolist()


def places(speakers, counts, seconds) -> set[int]:
    return {odd.place for odd in odd_ones(speakers, counts, seconds=seconds)}


@pytest.mark.parametrize("seed", range(8))
def test_honest_clips_of_slow_and_fast_speakers_are_not_accused(seed: int) -> None:
    draw = np.random.default_rng(seed)
    slow, fast = spoken(draw, 150, 0.11), spoken(draw, 150, 0.05)
    speakers = ["slow"] * 150 + ["fast"] * 150
    assert len(places(speakers, slow[0] + fast[0], slow[1] + fast[1])) <= 1


def test_exchanged_texts_are_found() -> None:
    draw = np.random.default_rng(0)
    counts, seconds = spoken(draw, 200, 0.07)
    order = np.argsort(counts)
    swapped = {int(order[10]), int(order[190]), int(order[20]), int(order[180])}
    for a, b in ((order[10], order[190]), (order[20], order[180])):
        counts[a], counts[b] = counts[b], counts[a]
    assert swapped <= places(["anna"] * 200, counts, seconds) | set()
    assert len(places(["anna"] * 200, counts, seconds)) <= len(swapped) + 1


def test_a_quarter_of_wrong_texts_does_not_hide_itself() -> None:
    draw = np.random.default_rng(1)
    counts, seconds = spoken(draw, 120, 0.07)
    wrong = {place for place in range(0, 120, 4) if counts[place] > 40}
    for place in wrong:
        counts[place] //= 6
    assert len(wrong & places(["anna"] * 120, counts, seconds)) > 0.9 * len(wrong)


def test_few_clips_are_not_judged_by_themselves() -> None:
    assert places(["anna"] * 5, [10, 10, 10, 10, 10], [1.0, 1.0, 1.0, 1.0, 9.0]) == set()
    counts, seconds = spoken(np.random.default_rng(2), 40, 0.07)
    found = places(["anna"] * 40 + ["theo"], [*counts, 20], [*seconds, 20.0])
    assert 40 in found


def test_the_expected_length_is_told() -> None:
    (odd,) = odd_ones(["a"] * 21, [20] * 21, seconds=[1.0 + 0.01 * k for k in range(20)] + [5.0])
    assert (odd.place, odd.seconds) == (20, 5.0)
    assert odd.expected_s == pytest.approx(1.1, abs=0.05)
