"""What a difference means, and what would decide it, by hand."""

from __future__ import annotations

import pytest

from jobs.comparison.inference import Difference, Estimate
from jobs.comparison.verdicts import decide, decider


def difference(low: float, high: float, **fields) -> Difference:
    given = {
        "of": "recipes", "alpha": 0.05, "paired": False, "num_items": 40, "num_runs": (3, 3), **fields,
    }  # fmt: skip
    return Difference((low + high) / 2, low, high=high, **given)


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [
        ((0.2, 0.6), "better"),
        ((-0.6, -0.2), "worse"),
        ((-0.05, 0.09), "equivalent"),
        # It excludes 0, and is too small to count.
        ((0.01, 0.1), "equivalent"),
        ((0.01, 0.3), "better"),
        ((-0.05, 0.3), "undecided"),
    ],
)
def test_verdicts_by_the_interval_and_the_margin(interval, verdict):
    assert decide(difference(*interval), margin=0.1, rises=True) == verdict
    falls = {"better": "worse", "worse": "better"}.get(verdict, verdict)
    assert decide(difference(*interval), margin=0.1, rises=False) == falls


def test_models_and_few_items_give_no_verdict_about_recipes():
    assert decide(difference(0.2, 0.6, of="models"), margin=0.1, rises=True) == "models differ"
    assert decide(difference(0.0, 0.05, of="models"), margin=0.1, rises=True) == "models equivalent"
    assert decide(difference(0.2, 0.6, num_items=9), margin=0.1, rises=True) == "undecided"


def estimate(mean: float, *, runs: float, items: float, num_items: int = 40) -> Estimate:
    return Estimate(
        mean, runs, runs_freedom=4.0, items_variance=items, items_freedom=num_items - 1,
        paired=False, num_items=num_items, num_runs=(3, 3),
    )  # fmt: skip


def test_seeds_that_decide_by_hand():
    """Variance 0.04 of a difference with 3 seeds a side is 0.12 / S.

    0.5 dB is seen four times in five where (t + 0.8416) sqrt(0.12 / S) <= 0.5, t with 2 S - 2
    degrees: S = 5 gives (2.306 + 0.842) 0.1549 = 0.488; S = 4 gives (2.447 + 0.842) 0.1732 = 0.570.
    """
    found = decider(estimate(0.5, runs=0.04, items=0.0), 0.05, margin=0.1, hours=(1.5, 1.5))
    assert (found.seeds, found.more_runs, found.items) == (5, 4, None)
    # Two runs more of each side, of an hour and a half each.
    assert found.gpu_hours == pytest.approx(6.0)


def test_items_decide_where_seeds_cannot():
    found = decider(estimate(0.5, runs=1e-4, items=0.09), 0.05, margin=0.1, hours=None)
    assert (found.seeds, found.gpu_hours) == (None, None)
    assert 80 < found.items < 160


def test_nothing_affordable_decides_almost_nothing():
    assert decider(estimate(0.001, runs=0.5, items=0.5), 0.05, margin=0.0, hours=(0.5, 0.5)) is None
    few = estimate(0.5, runs=0.04, items=0.0, num_items=9)
    assert decider(few, 0.05, margin=0.1, hours=(1.5, 1.5)) is None
