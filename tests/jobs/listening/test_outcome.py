"""How often listeners of known ability are told what: simulation, with stopping as they like."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest

from jobs.listening.design import design
from jobs.listening.intervals import needed_trials
from jobs.listening.outcome import LEVELS, Outcome, Tally, judge, pool

PLANNED = needed_trials()
LISTENERS = 3000


@functools.cache
def judged(
    mode: str, hits: int, misses: int, ties: int = 0, planned: int = PLANNED, sessions: int = 1
) -> Outcome:
    """The judgement of a tally; simulated listeners share few of them."""
    return judge(
        Tally(mode, hits=hits, misses=misses, ties=ties, planned=planned, sessions=sessions)
    )


def rates(share: float, *, seed: int = 0) -> dict[str, float]:
    """How often each finding is made of listeners who complete one session, and the coverage."""
    hits = np.random.default_rng(seed).binomial(PLANNED, share, size=LISTENERS)
    found = [judged("abx", k, PLANNED - k) for k in hits.tolist()]
    counts = dict.fromkeys(("heard", "not heard", "undecided", "below chance"), 0.0)
    for outcome in found:
        counts[outcome.finding] += 1 / LISTENERS
    return counts | {"covered": float(np.mean([o.low <= share <= o.high for o in found]))}


def error(share: float) -> float:
    """Four standard errors of a simulated rate."""
    return 4 * math.sqrt(share * (1 - share) / LISTENERS)


def test_guessing_listeners_hear_nothing():
    found = rates(0.5)
    assert found["heard"] <= 0.025 + error(0.025)
    assert found["below chance"] <= 0.025 + error(0.025)
    assert found["not heard"] >= 0.75
    assert found["covered"] >= 0.95 - error(0.05)


@pytest.mark.parametrize(("share", "heard"), [(0.6, 0.2), (0.7, 0.8), (0.75, 0.94), (0.9, 0.999)])
def test_hearing_listeners_are_found(share, heard):
    found = rates(share)
    assert found["heard"] >= heard - error(heard)
    assert found["covered"] >= 0.95 - error(0.05)
    if share >= 0.7:
        assert found["not heard"] <= 0.025 + error(0.025)


def heard_when_stopping_at_will(mode: str, share: float, *, planned: int, sessions: int) -> float:
    """The probability that a listener is ever told "heard", who looks after every trial.

    He stops as soon as he is told, completes his session otherwise, and begins again until there were so
    many sessions: the worst a listener can do. Computed exactly, over all numbers of hits.
    """
    heard = 0.0
    alive = {0: 1.0}
    for trials in range(1, sessions * planned + 1):
        after: dict[int, float] = {}
        for hits, mass in alive.items():
            after[hits] = after.get(hits, 0.0) + mass * (1 - share)
            after[hits + 1] = after.get(hits + 1, 0.0) + mass * share
        session = -(-trials // planned)
        alive = {}
        for hits, mass in after.items():
            if mass < 1e-9 or (
                judged(
                    mode, hits, trials - hits, planned=session * planned, sessions=session
                ).finding
                == "heard"
            ):
                heard += mass
            else:
                alive[hits] = mass
    return heard


@pytest.mark.parametrize("mode", ["abx", "preference"])
@pytest.mark.parametrize(("planned", "sessions"), [(49, 2), (20, 4), (67, 1), (6, 6)])
def test_stopping_at_will_and_beginning_again_finds_chance_in_five_percent_at_most(
    mode, planned, sessions
):
    assert heard_when_stopping_at_will(mode, 0.5, planned=planned, sessions=sessions) <= 0.05


def test_who_hears_well_may_stop_early():
    assert heard_when_stopping_at_will("abx", 0.9, planned=49, sessions=1) >= 0.99


def preference_rates(for_a: float, ties: float) -> dict[str, float]:
    planned = needed_trials(LEVELS["preference", "exact"])
    weights = [(1 - ties) * for_a, (1 - ties) * (1 - for_a), ties]
    counts = np.random.default_rng(3).multinomial(planned, weights, size=1000).tolist()
    found = [judged("preference", *row, planned=planned) for row in counts]
    share = dict.fromkeys(("heard", "not heard", "undecided"), 0.0)
    for outcome in found:
        share[outcome.finding] += 1 / len(found)
    covered = np.mean([outcome.low <= for_a <= outcome.high for outcome in found])
    return share | {"covered": float(covered)}


@pytest.mark.parametrize("ties", [0.0, 0.3, 0.9])
def test_no_preference_is_not_taken_for_one_however_many_ties(ties):
    found = preference_rates(0.5, ties)
    assert found["heard"] <= 0.05
    assert found["covered"] >= 0.95 - error(0.05)
    assert found["not heard"] >= 0.4


@pytest.mark.parametrize("ties", [0.0, 0.3])
def test_a_clear_preference_is_found(ties):
    found = preference_rates(0.85, ties)
    assert found["heard"] >= 0.95
    assert found["not heard"] <= 0.025
    assert found["covered"] >= 0.95 - error(0.05)


@pytest.mark.parametrize("habit", ["always 1", "alternates", "half of each", "coins"])
def test_who_cannot_hear_gains_nothing_by_any_habit(habit):
    # Against the real design: answers that know nothing of what is played.
    random = np.random.default_rng(4)
    heard = 0
    for seed in range(LISTENERS):
        trials = design(str(seed), PLANNED, items=4, mode="abx")
        answers = {
            "always 1": [1] * PLANNED,
            "alternates": [1 + number % 2 for number in range(PLANNED)],
            "half of each": random.permutation(
                [1 + number % 2 for number in range(PLANNED)]
            ).tolist(),
            "coins": random.integers(1, 3, size=PLANNED).tolist(),
        }[habit]
        hits = sum(answer == trial.x for answer, trial in zip(answers, trials, strict=True))
        heard += judged("abx", hits, PLANNED - hits).finding == "heard"
    assert heard / LISTENERS <= 0.025 + error(0.025)


def test_the_bound_above_chance_corrects_for_guesses():
    # Who hears it in 40 % of trials and guesses in the others is right in 70 %.
    outcome = judged("abx", 24, 25)
    assert outcome.most_heard == pytest.approx(2 * outcome.high - 1)
    assert outcome.finding == "not heard"
    assert judged("abx", 5, 44).finding == "below chance"
    assert judged("abx", 5, 44).most_heard == 0


def test_an_early_stop_is_judged_by_the_interval_for_any_time():
    early = judged("abx", 12, 0)
    assert (early.method, early.finding) == ("anytime", "heard")
    # Of 9 planned trials 8 are enough; the same answers are not, where more were planned.
    assert judged("abx", 8, 1, planned=9).finding == "heard"
    assert judged("abx", 8, 1, planned=49).finding == "undecided"


def test_pooling_adds_and_is_never_exact():
    tally = pool(
        [Tally("abx", hits=30, misses=19, planned=49), Tally("abx", hits=31, misses=18, planned=49)]
    )
    assert (tally.hits, tally.misses, tally.planned, tally.sessions) == (61, 37, 98, 2)
    assert judge(tally).method == "anytime"
