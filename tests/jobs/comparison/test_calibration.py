"""How often verdicts are right, on experiments whose truth is known.

A small grid with fixed seeds; `tests/bench/verdicts.py` has the whole one. Each rate is the share of
experiments, so its Monte Carlo error is known: bounds are those promised (7 % false, 93 % coverage) plus three
standard errors of a share of 7 %.
"""

from __future__ import annotations

import numpy as np
import pytest

from jobs.comparison.compare import compare
from jobs.comparison.inference import Sample, compared
from tests.jobs.comparison.simulation import Cell, answers, learning_curves, paired_t, welch

REPEATS = 500
MARGIN_OF_ERROR = 3 * (0.07 * 0.93 / REPEATS) ** 0.5
EQUAL = [
    Cell(seeds=2, items=10, spreads=(0.2, 0.2)),
    Cell(seeds=2, items=200, spreads=(0.0, 0.5)),
    Cell(seeds=3, items=40, spreads=(0.0, 0.0)),
    Cell(seeds=3, items=40, spreads=(0.5, 0.5), correlation=0.9),
    Cell(seeds=5, items=40, spreads=(0.3, 0.3), interaction=1.0),
    Cell(seeds=3, items=40, spreads=(0.2,) * 5),
    Cell(seeds=3, items=200, spreads=(0.0, 0.5, 0.5, 0.5, 0.5)),
    Cell(seeds=5, items=800, spreads=(0.5, 0.0, 0.2)),
    Cell(seeds=5, items=200, spreads=(0.5, 0.05), seeds_of_first=2),
]


@pytest.mark.parametrize("cell", EQUAL, ids=repr)
def test_equal_recipes_are_called_better_or_worse_in_at_most_seven_percent(cell):
    """The error of a whole table: any false verdict counts, and any interval without the truth."""
    false = missed = 0
    for answer in answers(cell, REPEATS, seed=1, margins={"si_sdr": 0.0}):
        rows = answer.tables["si_sdr"][1:]
        false += any(row.verdict in ("better", "worse") for row in rows)
        missed += any(not row.difference.low <= 0 <= row.difference.high for row in rows)
    assert false / REPEATS <= 0.07 + MARGIN_OF_ERROR
    assert missed / REPEATS <= 0.07 + MARGIN_OF_ERROR


@pytest.mark.parametrize(("seeds", "variants"), [(2, 2), (2, 5), (3, 5)])
def test_error_counts_that_tie_by_chance_are_no_verdict(seeds, variants):
    """Equal recipes with shared seeds, and few errors in each run: means of runs are often equal."""
    generator = np.random.default_rng(8)
    pairs, false = [(0, k) for k in range(1, variants)], 0
    for _ in range(REPEATS):
        words_N = generator.integers(3, 13, size=40)
        base_N = generator.binomial(words_N, 0.1)
        shape = (variants, seeds, 40)
        flips_VSN = (generator.random(shape) < 0.05) * generator.choice([-1, 1], shape)
        values_VSN = np.clip(base_N + flips_VSN, 0, words_N) / words_N.mean()
        samples = [Sample(values_SN, tuple(range(seeds))) for values_SN in values_VSN]
        false += any(found.is_shown for _, found in compared(samples, pairs, of="recipes"))
    assert false / REPEATS <= 0.07 + MARGIN_OF_ERROR


def test_the_order_of_equal_recipes_is_not_read_out_of_noise():
    cell = Cell(seeds=3, items=40, spreads=(0.3,) * 4)
    wrong = sum(any(answer.orderings[0].apart) for answer in answers(cell, REPEATS, seed=2))
    assert wrong / REPEATS <= 0.07 + MARGIN_OF_ERROR


def test_intervals_hold_true_differences():
    cell = Cell(seeds=3, items=40, spreads=(0.2, 0.4, 0.1), deltas=(0.0, 1.0, -0.3))
    held = 0
    for answer in answers(cell, REPEATS, seed=3):
        rows = answer.tables["si_sdr"][1:]
        held += all(
            row.difference.low <= delta <= row.difference.high
            for row, delta in zip(rows, cell.deltas[1:], strict=True)
        )
    assert held / REPEATS >= 0.93 - MARGIN_OF_ERROR


@pytest.mark.parametrize(
    ("correlation", "test", "seeds"),
    [(0.0, welch, 3), (0.0, welch, 5), (0.95, paired_t, 3), (0.95, paired_t, 5)],
)
def test_true_differences_are_seen_about_as_often_as_by_the_best_test(correlation, test, seeds):
    """Welch's test where seeds have nothing in common, the paired one where they have."""
    spread = 0.2 if correlation == 0 else 0.5
    cell = Cell(
        seeds=seeds, items=200, spreads=(spread, spread), deltas=(0.0, 0.4), noise=0.5,
        correlation=correlation,
    )  # fmt: skip
    ours = sum(
        answer.tables["si_sdr"][1].verdict == "better" for answer in answers(cell, REPEATS, seed=4)
    )
    generator = np.random.default_rng(4)
    theirs = sum(test(*cell.draw(generator)) for _ in range(REPEATS))
    assert theirs / REPEATS > 0.3
    assert ours / REPEATS >= theirs / REPEATS - 0.05


def test_equivalent_is_said_of_what_lies_within_the_margin_and_seldom_of_more():
    near = Cell(seeds=5, items=800, spreads=(0.02, 0.02), noise=0.3)
    far = Cell(seeds=5, items=800, spreads=(0.02, 0.02), noise=0.3, deltas=(0.0, 0.12))
    said = {
        cell: sum(
            answer.tables["si_sdr"][1].verdict == "equivalent"
            for answer in answers(cell, 200, seed=5, margins={"si_sdr": 0.1})
        )
        for cell in (near, far)
    }
    assert said[near] >= 190
    assert said[far] <= 10


def test_one_seed_a_side_never_gives_a_verdict_about_recipes():
    cell = Cell(seeds=1, items=200, spreads=(0.3, 0.3))
    verdicts = {answer.tables["si_sdr"][1].verdict for answer in answers(cell, 100, seed=6)}
    assert "models differ" in verdicts
    assert verdicts <= {"models differ", "models equivalent", "undecided"}


def test_who_is_evaluated_more_often_wins_no_more_often():
    """Fifty evaluations against five: the best of fifty swings is 0.2 dB above the best of five."""
    generator = np.random.default_rng(7)
    repeats, wrong, gap = 120, 0, 0.0
    for _ in range(repeats):
        reader = learning_curves({"often": 50, "seldom": 5}, seeds=5, generator=generator)
        answer = compare(reader, reader.records, metrics=["si_sdr"], margins={"si_sdr": 0.0})
        row = answer.tables["si_sdr"][1]
        wrong += row.verdict in ("better", "worse")
        gap += row.difference.mean / repeats
    assert wrong / repeats <= 0.07 + 3 * (0.07 * 0.93 / repeats) ** 0.5
    assert abs(gap) < 0.03
    assert any("all runs have" in note for note in answer.notes)
