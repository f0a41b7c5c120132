"""Which runs fit into a night, against an exhaustive search; nothing ends after the deadline."""

from __future__ import annotations

from itertools import chain, combinations, permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.config.loading import load_config
from jobs.comparison import inference
from jobs.sweeps.backlog import Ahead, Backlog, Moment, placed
from jobs.sweeps.measured import Duration
from jobs.sweeps.night import NightError, plan_night
from jobs.sweeps.plan import PlannedRun
from tui.reports import night as night_report

CONFIG = load_config({"data": {"kind": "bandwidth", "train": "/x/a", "valid": "/x/v"}})
NOW = 1_700_000_000.0


def planned(variant: int, seed: int, duration: Duration | None) -> PlannedRun:
    return PlannedRun(
        f"v{variant}-s{seed}", f"v{variant}", seed=seed, config=CONFIG, updates=1, items=1,
        audio_seconds=1.0, epochs=0.0, duration=duration, size_bytes=None, warnings=(),
    )  # fmt: skip


def backlog(*free: float, ahead: tuple[Ahead, ...] = ()) -> Backlog:
    moments = tuple(Moment(NOW + f, NOW + f) for f in free)
    return Backlog(NOW, moments, ahead, num_alive=len(free))


def seconds(*values: float) -> list[Duration]:
    return [Duration(value * 0.9, value) for value in values]


DURATIONS = st.integers(1, 60).flatmap(
    lambda slowest: st.integers(1, slowest).map(lambda mean: Duration(float(mean), float(slowest)))
)


@st.composite
def nights(draw, max_workers: int = 3):
    """Draw runs of several seeds, what is there of them, the workers and a budget."""
    variants = draw(st.lists(DURATIONS, min_size=1, max_size=4))
    num_seeds = draw(st.integers(1, 4))
    runs = [
        planned(number, seed, duration)
        for seed in range(num_seeds)
        for number, duration in enumerate(variants)
    ]
    names = [run.name for run in runs]
    there = draw(st.sets(st.sampled_from(names)))
    ended = draw(st.sets(st.sampled_from(names))) - there
    free = draw(st.lists(st.integers(0, 40), min_size=1, max_size=max_workers))
    return runs, there, ended, free, draw(st.integers(0, 300))


def ends_of(runs, free) -> list[float]:
    """Return the ends at the slowest speed, the first free worker taking the next run."""
    busy = [float(f) for f in free]
    ends = []
    for run in runs:
        worker = min(range(len(busy)), key=busy.__getitem__)
        busy[worker] += run.duration.slowest_s
        ends.append(busy[worker])
    return ends


@given(drawn=nights(), partial=st.booleans())
@settings(max_examples=400, deadline=None)
def test_no_run_ends_after_the_deadline_and_rounds_stay_whole(drawn, partial) -> None:
    runs, there, ended, free, budget = drawn
    night = plan_night(
        runs, backlog(*free), deadline=NOW + budget, there=there, ended=ended, partial=partial
    )
    chosen = [item.run for item in night.runs]
    assert all(end <= budget for end in ends_of(chosen, free))
    assert [item.end.latest - NOW for item in night.runs] == pytest.approx(ends_of(chosen, free))
    missing = [run for run in runs if run.name not in there | ended]
    assert sorted(r.name for r in [*chosen, *night.left]) == sorted(r.name for r in missing)
    # One seed after the other, each in the order of the plan; only the last may be cut.
    seeds = list(dict.fromkeys(run.seed for run in chosen))
    assert [run.seed for run in chosen] == [s for s in seeds for r in chosen if r.seed == s]
    for seed in seeds[:-1] if partial else seeds:
        assert [r for r in chosen if r.seed == seed] == [r for r in missing if r.seed == seed]
    by_seed = {seed: {r.name for r in runs if r.seed == seed} for seed in {r.seed for r in runs}}
    done = there | {run.name for run in chosen}
    if not partial:
        assert night.rounds == sum(names <= done for names in by_seed.values())


@given(drawn=nights(max_workers=1))
@settings(max_examples=150, deadline=None)
def test_as_many_rounds_fit_as_an_exhaustive_search_finds(drawn) -> None:
    runs, there, _, free, budget = drawn
    night = plan_night(runs, backlog(*free), deadline=NOW + budget, there=there)
    rounds = {
        seed: [r for r in runs if r.seed == seed and r.name not in there]
        for seed in {r.seed for r in runs}
    }
    full = sum(not some for some in rounds.values())
    waiting = [some for some in rounds.values() if some]
    best = max(
        number
        for number in range(len(waiting) + 1)
        for picked in combinations(waiting, number)
        if all(end <= budget for end in ends_of(chain(*picked), free))
    )
    assert night.rounds == full + best
    # No order of the same rounds has its first answer, or its second, sooner.
    sums = [sum(r.duration.slowest_s for r in some) for some in waiting]
    soonest = [min(sum(order[: k + 1]) for order in permutations(sums)) for k in range(best)]
    seeds = list(dict.fromkeys(item.run.seed for item in night.runs))
    spent = [sum(r.duration.slowest_s for r in rounds[seed]) for seed in seeds]
    assert [sum(spent[: k + 1]) for k in range(best)] == soonest


@given(drawn=nights(max_workers=1))
@settings(max_examples=150, deadline=None)
def test_a_cut_round_has_its_reference_and_the_most_variants_that_fit(drawn) -> None:
    runs, _, _, free, budget = drawn
    night = plan_night(runs, backlog(*free), deadline=NOW + budget)
    if not night.left:
        assert night.cut == ()
        return
    before = [item.run for item in night.runs]
    reference, *others = [run for run in runs if run.seed == night.left[0].seed]
    best = max(
        (
            number
            for number in range(1, len(others) + 1)
            for picked in combinations(others, number)
            if all(e <= budget for e in ends_of([*before, reference, *picked], free))
        ),
        default=0,
    )
    assert len(night.cut) == (best + 1 if best else 0)
    assert not night.cut or night.cut[0] is reference
    more = plan_night(runs, backlog(*free), deadline=NOW + budget, partial=True)
    assert [item.run for item in more.runs] == [*before, *night.cut]
    assert more.rounds == night.rounds


@given(drawn=nights(), shares=st.lists(st.floats(0, 1), min_size=16, max_size=16))
@settings(max_examples=300, deadline=None)
def test_whatever_a_run_takes_up_to_its_slowest_speed_it_ends_in_time(drawn, shares) -> None:
    """Also with several workers: a run that ends early moves no later run back."""
    runs, there, ended, free, budget = drawn
    night = plan_night(runs, backlog(*free), deadline=NOW + budget, there=there, ended=ended)
    busy = [float(f) for f in free]
    for share, item in zip(shares, night.runs, strict=False):
        worker = min(range(len(busy)), key=busy.__getitem__)
        busy[worker] += share * item.run.duration.slowest_s
        assert NOW + busy[worker] <= item.end.latest + 1e-6
        assert busy[worker] <= budget + 1e-6


def two_rounds(**words):
    runs = [planned(v, s, d) for s in (0, 1) for v, d in enumerate(seconds(10, 20, 30))]
    return plan_night(runs, backlog(5.0), **words)


def test_a_night_by_hand() -> None:
    night = two_rounds(deadline=NOW + 5 + 60 + 10 + 20)
    assert [item.run.name for item in night.runs] == ["v0-s0", "v1-s0", "v2-s0"]
    assert [item.end.latest - NOW for item in night.runs] == [15, 35, 65]
    assert [item.end.expected - NOW for item in night.runs] == [14, 32, 59]
    assert (night.rounds, night.seeds, night.needed) == (1, 2, 60)
    assert [run.name for run in night.cut] == ["v0-s1", "v1-s1"]
    assert [run.name for run in night.left] == ["v0-s1", "v1-s1", "v2-s1"]


def test_a_reference_alone_is_no_comparison() -> None:
    assert two_rounds(deadline=NOW + 5 + 60 + 10).cut == ()


def test_a_round_with_its_reference_there_can_be_cut_to_one_variant() -> None:
    night = two_rounds(deadline=NOW + 5 + 20, there={"v0-s0"})
    assert [run.name for run in night.cut] == ["v1-s0"]


def test_the_rest_of_a_begun_round_comes_first_and_a_broken_one_last() -> None:
    night = two_rounds(deadline=NOW + 1000, there={"v0-s1"}, ended={"v1-s0"})
    assert [item.run.name for item in night.runs] == ["v1-s1", "v2-s1", "v0-s0", "v2-s0"]
    assert night.rounds == 1


def test_an_unknown_time_is_refused_with_what_to_do() -> None:
    runs = [planned(0, 0, Duration(1, 1)), planned(1, 0, None)]
    with pytest.raises(
        NightError, match=r"no measured time of 1 run: v1-s0; add --measure to time"
    ):
        plan_night(runs, backlog(0.0), deadline=NOW + 10)
    # What is there already needs no time.
    night = plan_night(runs, backlog(0.0), deadline=NOW + 10, there={"v1-s0"})
    assert [item.run.name for item in night.runs] == ["v0-s0"]


def test_workers_share_runs_as_they_become_free() -> None:
    free = [Moment(0, 0), Moment(5, 8)]
    ends = placed([Duration(10, 12), Duration(1, 2), Duration(1, 2)], free)
    assert [(end.expected, end.latest) for end in ends] == [(10, 12), (6, 10), (7, 12)]


def test_a_night_promises_the_verdicts_that_a_comparison_gives() -> None:
    assert night_report.FEWEST_SEEDS == inference.FEWEST_SEEDS
