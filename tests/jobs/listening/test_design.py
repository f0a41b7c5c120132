"""The order of trials: balanced where that is free, independent where it matters."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from jobs.listening.design import design
from jobs.listening.intervals import needed_correct


@given(seed=st.text(max_size=8), trials=st.integers(1, 80), items=st.integers(1, 90))
def test_abx_is_balanced_in_items_and_order(seed, trials, items):
    made = design(seed, trials, items=items, mode="abx")
    assert len(made) == trials
    assert made == design(seed, trials, items=items, mode="abx")
    uses = Counter(trial.item for trial in made)
    assert max(uses.values()) - min([*uses.values()] + [0] * (len(uses) < items)) <= 1
    firsts = Counter(trial.first for trial in made)
    assert abs(firsts["a"] - firsts["b"]) <= 1
    assert {trial.x for trial in made} <= {1, 2}


@pytest.mark.parametrize("mode", ["abx", "preference"])
def test_what_answers_are_held_against_is_a_fair_independent_coin(mode):
    # All 2 ** 6 sequences must be equally likely: then hits are binomial whatever the listener does.
    def coins(seed: int) -> tuple[bool, ...]:
        made = design(str(seed), 6, items=2, mode=mode)
        return tuple((t.x == 1) if mode == "abx" else (t.first == "a") for t in made)

    counts = Counter(coins(seed) for seed in range(6400))
    assert len(counts) == 64
    assert stats.chisquare(list(counts.values())).pvalue > 1e-4


@pytest.mark.parametrize("mode", ["abx", "preference"])
def test_both_sides_and_both_places_are_used_equally_often(mode):
    made = [t for seed in range(200) for t in design(str(seed), 49, items=4, mode=mode)]
    share = np.mean([t.first == "a" for t in made])
    assert share == pytest.approx(0.5, abs=4 * 0.5 / len(made) ** 0.5)
    if mode == "abx":
        sides = np.mean([t.side("x") == "a" for t in made])
        assert sides == pytest.approx(0.5, abs=4 * 0.5 / len(made) ** 0.5)
        assert all(t.side("x") == t.side(str(t.x)) for t in made)
    assert all({t.side("1"), t.side("2")} == {"a", "b"} for t in made)


def test_why_not_exactly_half():
    # The reason given in the docstring: with half of 12 answers fixed, a guesser with six of each is wrong
    # in 4 % (one side) and 8 % (two sides) of tests; with coins, whatever he does, in 2.5 % and 5 % at most.
    trials, needed = 12, needed_correct(12)
    overlap = stats.hypergeom(trials, 6, 6)
    assert 2 * overlap.sf((needed - 1) // 2) == pytest.approx(0.0801, abs=1e-4)
    assert stats.binom.sf(needed - 1, trials, 0.5) <= 0.025
