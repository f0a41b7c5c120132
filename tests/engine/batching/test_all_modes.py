"""What holds for all eight modes: once per epoch, disjoint, equal counts, capped, pure, resumable."""

from __future__ import annotations

import pickle
from collections import Counter
from math import ceil, inf
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.batching.capped_plan import CappedPlan
from engine.batching.items import MicroBatch
from engine.batching.open_plan import PlanError, open_plan
from engine.batching.plan import Plan
from engine.batching.report import report_on
from engine.config.loading import load_config
from engine.config.schema import RunConfig
from tests.engine.batching.lengths import item_sizes

CAP_S = 40.0
MODES: dict[str, dict[str, Any]] = {
    "exact": {"items": 7, "cap_s": CAP_S},
    "exact, seconds": {"mode": "exact", "seconds": 80.0, "cap_s": CAP_S, "pool_updates": 3},
    "exact, pool": {"mode": "exact", "items": 3, "pool_updates": 4, "cap_s": CAP_S},
    "fixed": {"mode": "fixed", "micro_batch": 5},
    "duration": {"mode": "duration", "cap_s": CAP_S},
    "1D-bucketing": {"mode": "1D-bucketing", "cap_s": CAP_S, "bin_ends_s": [2.0, 8.0, 50.0]},
    "1D-bucketing-dyn": {"mode": "1D-bucketing-dyn", "cap_s": CAP_S, "bins": 6},
    "2D-bucketing": {"mode": "2D-bucketing", "cap_s": CAP_S, "bins": 4, "token_bins": 2},
    "2D-bucketing-fixed": {
        "mode": "2D-bucketing-fixed", "bin_ends": [[3.0, 20], [20.0, 50], [50.0, 400]],
        "bin_items": [6, 3, 1],
    },
    "2D-bucketing-singlet": {
        "mode": "2D-bucketing-singlet", "bin_ends": [[50.0, 400]], "micro_batch": 4,
    },
}  # fmt: skip
modes = st.sampled_from(sorted(MODES))
worlds = st.integers(1, 4)
accumulations = st.integers(1, 3)


def config_of(mode: str, **batch: Any) -> RunConfig:
    values = {"micro_batch": 64, **MODES[mode], **batch}
    return load_config(
        {
            "data": {"kind": "bandwidth", "train": "t", "valid": "v"},
            "batch": {"mode": mode.partition(",")[0], **values},
        }
    )


def plans_of(config: RunConfig, sizes: np.ndarray, world: int) -> list[Plan]:
    return [open_plan(config, sizes, manifest="m", rank=r, world=world) for r in range(world)]


def draws(batches: list[MicroBatch]) -> list[tuple[int, int]]:
    return [(draw.epoch, draw.index) for batch in batches for draw in batch.draws]


def cost_of(batch: MicroBatch, mode: str) -> float:
    joint = 1 + batch.shape[1] / 100 if mode == "2D-bucketing" else 1.0
    return len(batch) * batch.shape[0] * joint


@settings(max_examples=80, deadline=None)
@given(st.data(), modes, worlds, accumulations, st.booleans())
def test_an_epoch_holds_every_item_once(
    data: st.DataObject, mode: str, world: int, accumulation: int, worst_first: bool
) -> None:
    sizes = data.draw(item_sizes(tokens=True))
    config = config_of(mode, accumulation=accumulation, worst_first=worst_first)
    plans = plans_of(config, sizes, world)
    if isinstance(plans[0], CappedPlan):
        updates = 2 * plans[0].epochs.updates
    else:
        updates = int(np.ceil(3 * len(sizes) / plans[0].mean_size.items)) + 20
    seen: Counter[tuple[int, int]] = Counter()
    for update in range(updates):
        ranks = [list(plan.micro_batches(update)) for plan in plans]
        assert len({len(batches) for batches in ranks}) == 1
        update_draws = [draw for batches in ranks for draw in draws(batches)]
        assert update_draws
        seen.update(update_draws)
        size = plans[0].update_size(update)
        assert size.items == len(update_draws)
        assert size.audio_seconds == pytest.approx(sum(sizes[i, 0] for _, i in update_draws))
        assert size.micro_batches == sum(len(b) > 0 for batches in ranks for b in batches)
        assert size.epochs == plans[-1].mean_size.epochs
        if not worst_first:  # then the longest item comes first, out of its place
            # Items are dealt to the updates of a pool, which together cover this part of the data.
            pool = config.batch.pool_updates if config.batch.mode == "exact" else 1
            first = update - update % pool
            done = size.epochs_in(first), size.epochs_in(first + pool)
            assert {e for e, _ in update_draws} <= set(range(int(done[0]), ceil(done[1])))
    assert set(seen.values()) == {1}
    for epoch in range(2):
        assert sorted(i for e, i in seen if e == epoch) == list(range(len(sizes)))


@settings(max_examples=80, deadline=None)
@given(st.data(), modes, worlds, st.sampled_from([None, 10.0]))
def test_no_batch_is_over_its_cap_nor_padded_too_short(
    data: st.DataObject, mode: str, world: int, quadratic_s: float | None
) -> None:
    sizes = data.draw(item_sizes(tokens=True))
    config = config_of(mode, quadratic_s=quadratic_s, micro_batch=data.draw(st.integers(1, 12)))
    cap = config.batch.cap_s or inf
    most = max((config.batch.micro_batch, *config.batch.bin_items))
    for plan in plans_of(config, sizes, world):
        for update in range(6):
            for batch in filter(len, plan.micro_batches(update)):
                real = sizes[[draw.index for draw in batch.draws]]
                if not batch.shape:
                    assert (sizes == sizes[0]).all()
                    continue
                assert (real <= np.array(batch.shape)).all()
                growth = 1 + batch.shape[0] / quadratic_s if quadratic_s else 1.0
                cost = cost_of(batch, mode) * growth
                assert len(batch) == 1 or cost <= cap * (1 + 1e-6)
                assert len(batch) <= most


@settings(max_examples=40, deadline=None)
@given(st.data(), modes, worlds, st.lists(st.integers(0, 400), min_size=1, max_size=4))
def test_an_update_needs_nothing_but_its_number(
    data: st.DataObject, mode: str, world: int, updates: list[int]
) -> None:
    sizes = data.draw(item_sizes(tokens=True, most=40))
    config = config_of(mode)
    plan = plans_of(config, sizes, world)[-1]
    walked = {update: list(plan.micro_batches(update)) for update in sorted(updates)}
    for update in updates:
        fresh = pickle.loads(pickle.dumps(plans_of(config, sizes, world)[-1]))
        assert list(fresh.micro_batches(update)) == walked[update]
        assert fresh.hash == plan.hash


@settings(max_examples=40, deadline=None)
@given(st.data(), st.sampled_from(["exact", "exact, seconds", "exact, pool"]), st.integers(2, 4))
def test_hardware_changes_no_exact_update(data: st.DataObject, mode: str, world: int) -> None:
    sizes = data.draw(item_sizes())
    alone = open_plan(config_of(mode, cap_s=None), sizes, manifest="m")
    other = config_of(mode, cap_s=25.0, micro_batch=3, edges=2, quadratic_s=9.0)
    ranks = plans_of(other, sizes, world)
    assert {plan.hash for plan in ranks} == {alone.hash}
    for update in (0, 1, 17):
        together = [draw for plan in ranks for draw in draws(list(plan.micro_batches(update)))]
        assert sorted(together) == sorted(draws(list(alone.micro_batches(update))))


@settings(max_examples=40, deadline=None)
@given(st.data(), modes, worlds)
def test_a_rank_goes_without_only_where_items_lack(
    data: st.DataObject, mode: str, world: int
) -> None:
    sizes = data.draw(item_sizes(tokens=True))
    plans = plans_of(config_of(mode), sizes, world)
    for update in range(5):
        counts = [[len(batch) for batch in plan.micro_batches(update)] for plan in plans]
        steps = np.array(counts) if isinstance(plans[0], CappedPlan) else np.array(counts).ravel()
        if steps.ndim == 2:
            # Of the batches of one step, some are empty only if none could be parted further.
            assert all(step.max() <= 1 or step.min() > 0 for step in steps.T)
        elif (steps == 0).any():
            assert steps.max() <= 1


@pytest.mark.parametrize("mode", sorted(MODES))
def test_the_run_begins_with_its_most_expensive_batch(mode: str) -> None:
    random = np.random.default_rng(3)
    seconds = np.round(random.uniform(1, 15, 300), 2)
    seconds[217] = 33.0
    sizes = np.stack([seconds, np.ceil(seconds * 3)], axis=1)
    plan = open_plan(config_of(mode), sizes, manifest="m")
    costs = [[cost_of(b, mode) for b in plan.micro_batches(update)] for update in range(90)]
    first = plan.micro_batches(0)
    if isinstance(plan, CappedPlan):
        # Those after the first epoch may differ.
        assert costs[0][0] == max(map(max, costs[: plan.epochs.updates]))
    else:
        assert 217 in [draw.index for draw in first[0].draws] or 217 in [i for _, i in draws(first)]
        assert costs[0] == sorted(costs[0], reverse=True)
    moved = open_plan(config_of(mode, worst_first=False), sizes, manifest="m")
    assert moved.hash != plan.hash


def test_dropped_tails_are_counted_and_differ_between_epochs() -> None:
    sizes = np.random.default_rng(0).uniform(1, 10, (500, 1))
    config = config_of("1D-bucketing-dyn", tail="drop", accumulation=3)
    plan = open_plan(config, sizes, manifest="m", world=4)
    assert isinstance(plan, CappedPlan)
    left = [set(plan.epochs.epoch(number).dropped.tolist()) for number in (0, 1)]
    assert left[0] != left[1]
    report = report_on(plan, sizes)
    assert [(out.reason, out.count) for out in report.left_out] == [
        ("dropped at the end of the epoch (batch.tail = drop)", len(left[0]))
    ]
    trained = round(report.mean_items * report.updates_seen)
    assert trained + len(left[0]) == 500


@pytest.mark.parametrize("items", [16, 100])
def test_figures_of_pooled_updates_are_those_of_whole_pools(items: int) -> None:
    # An update of a pool has items of like length: some of them are no sample of the data.
    sizes = np.linspace(1, 4, 87)[:, None].repeat(2, axis=1)
    plan = open_plan(config_of("exact", items=items, pool_updates=8), sizes, manifest="m")
    report = report_on(plan, sizes)
    assert report.updates_seen == 8
    assert report.mean_s == pytest.approx(2.5 * items, rel=0.05)
    assert report.mean_tokens == pytest.approx(2.5 * items, rel=0.05)


def test_items_that_fit_no_bucket_are_counted() -> None:
    sizes = np.array([[1.0], [2.0], [9.0], [3.0]])
    plan = open_plan(config_of("1D-bucketing", bin_ends_s=[2.0, 3.0]), sizes, manifest="m")
    (left,) = report_on(plan, sizes).left_out
    assert (left.reason, left.count, left.examples) == ("no bucket is large enough", 1, (2,))


@pytest.mark.parametrize(
    ("mode", "batch", "sizes", "words"),
    [
        ("2D-bucketing", {}, [[1.0], [2.0]], "requires items with tokens"),
        ("1D-bucketing", {"bin_ends_s": [0.5]}, [[1.0]], "no item fits"),
        ("exact, seconds", {"seconds": 3.0}, [[1.0], [2.0]], "raise it to at least 5"),
        ("fixed", {"tail": "drop", "accumulation": 9}, [[1.0], [2.0]], "set batch.tail = split"),
    ],
)
def test_settings_that_the_data_cannot_have_are_refused(
    mode: str, batch: dict[str, Any], sizes: list[list[float]], words: str
) -> None:
    with pytest.raises(PlanError, match=words):
        open_plan(config_of(mode, **batch), np.array(sizes), manifest="m")
