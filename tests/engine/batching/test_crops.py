"""Plans whose items are cropped: one length an update, whatever the devices, and what that costs."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from engine.batching.open_plan import open_plan
from engine.batching.plan import FixedPlan
from engine.batching.report import plan_warnings, report_on
from engine.config.loading import load_config
from engine.config.schema import RunConfig
from engine.config.unlabelled import UnlabelledData

HOP_S = 0.02
SIZES = np.round(np.random.default_rng(0).uniform(2.0, 15.0, (400, 1)), 3)


def config_of(fit: str = "crop", **batch: Any) -> RunConfig:
    """A config of data whose items differ; the recipe is of no matter to a plan."""
    data = UnlabelledData.model_validate_json(json.dumps({"train": "t", "valid": "v", "fit": fit}))
    config = load_config(
        {"data": {"kind": "bandwidth", "train": "t", "valid": "v"}, "batch": batch}
    )
    return config.model_copy(update={"data": data})


@pytest.mark.parametrize(
    "batch",
    [
        {"items": 12},
        {"items": 12, "pool_updates": 8},
        {"seconds": 120.0},
        {"seconds": 120.0, "pool_updates": 4},
    ],
)
def test_the_crop_of_an_update_depends_on_its_items_alone(batch: dict[str, Any]) -> None:
    plans = [
        open_plan(config_of(micro_batch=most, **limits, **batch), SIZES, manifest="", world=world)
        for most, limits, world in ((64, {}, 1), (3, {}, 1), (64, {"cap_s": 31.0}, 2), (1, {}, 4))
    ]
    assert len({plan.hash for plan in plans}) == 1
    for update in range(12):
        lengths, items = set(), []
        for plan in plans:
            packed = plan.packed(update)  # type: ignore[attr-defined]
            batches = [
                packed.micro_batch(one) for rank in packed.ranks for one in rank if one.count
            ]
            items.append(sorted((d.epoch, d.index) for b in batches for d in b.draws))
            lengths |= {b.shape for b in batches}
            count = len(items[-1])
        assert all(own == items[0] for own in items)
        ((length_s,),) = lengths
        shortest_s = min(SIZES[index, 0] for _, index in items[0])
        assert shortest_s - HOP_S < length_s <= shortest_s + 1e-9
        assert length_s / HOP_S == pytest.approx(round(length_s / HOP_S), abs=1e-6)
        assert plans[0].update_size(update).audio_seconds == pytest.approx(count * length_s)


@pytest.mark.parametrize(
    "batch",
    [
        {"mode": "duration", "cap_s": 60.0},
        {"mode": "1D-bucketing-dyn", "cap_s": 60.0, "bins": 8, "accumulation": 2},
        {"mode": "1D-bucketing", "cap_s": 60.0, "bin_ends_s": [5.0, 10.0, 20.0]},
        {"mode": "fixed", "micro_batch": 6},
    ],
)
def test_a_batch_of_the_other_modes_is_cropped_to_its_shortest(batch: dict[str, Any]) -> None:
    plan = open_plan(config_of(**batch), SIZES, manifest="")
    padded = open_plan(config_of("pad", **batch), SIZES, manifest="")
    assert plan.hash != padded.hash
    seen = 0
    for update in range(10):
        for micro in plan.micro_batches(update):
            shortest_s = min(SIZES[draw.index, 0] for draw in micro.draws)
            assert shortest_s - HOP_S < micro.shape[0] <= shortest_s + 1e-9
            assert len(micro) * micro.shape[0] <= batch.get("cap_s", np.inf)
            seen += len(micro)
        used_s = sum(len(micro) * micro.shape[0] for micro in plan.micro_batches(update))
        assert plan.update_size(update).audio_seconds == pytest.approx(used_s)
    assert seen


def test_a_length_on_the_grid_is_not_shortened_by_rounding() -> None:
    sizes = np.array([[number * 0.02] for number in range(100, 400)])
    plan = open_plan(config_of(mode="duration", cap_s=8.0, micro_batch=1), sizes, manifest="")
    for update in range(300):
        (micro,) = plan.micro_batches(update)
        assert micro.shape[0] == pytest.approx(sizes[micro.draws[0].index, 0], abs=1e-9)


def test_the_report_says_how_much_audio_is_cut_off_and_how_to_keep_it() -> None:
    plan = open_plan(config_of(items=16), SIZES, manifest="")
    report = report_on(plan, SIZES)
    used = sum(plan.update_size(k).audio_seconds for k in range(25))
    assert report.cropped_share == pytest.approx(1 - used / SIZES.sum())
    assert report.cropped_share > 0.5
    assert report.padding_share == 0
    assert report.mean_s == pytest.approx(used / 25)
    assert any("raise batch.pool_updates" in note for note in report.notes)
    (warning,) = plan_warnings(plan, SIZES)
    assert warning.startswith("batch plan: crops to the shortest item leave out 6")
    pooled = open_plan(config_of(items=16, pool_updates=25), SIZES, manifest="")
    better = report_on(pooled, SIZES)
    assert better.cropped_share < 0.08
    assert not any("crops" in note for note in better.notes)
    assert plan_warnings(pooled, SIZES) == []
    padded = report_on(open_plan(config_of("pad", items=16), SIZES, manifest=""), SIZES)
    assert padded.cropped_share == 0


def test_the_first_update_has_the_longest_crop() -> None:
    plan = open_plan(config_of(items=4), SIZES, manifest="")
    crops = [plan.micro_batches(update)[0].shape[0] for update in range(100)]
    assert crops[0] == max(crops)


def test_the_mean_update_is_what_updates_add() -> None:
    for batch in ({"items": 8, "pool_updates": 5}, {"mode": "1D-bucketing-dyn", "cap_s": 90.0}):
        plan = open_plan(config_of(**batch), SIZES, manifest="")
        number = round(1 / plan.mean_size.epochs)
        added = [plan.update_size(update).audio_seconds for update in range(number)]
        assert plan.mean_size.audio_seconds == pytest.approx(np.mean(added), rel=0.1)


def test_items_of_one_length_keep_it_to_the_grid() -> None:
    plan = open_plan(config_of(items=4), np.full((10, 1), 3.011), manifest="")
    assert isinstance(plan, FixedPlan)
    assert plan.update_size(0).audio_seconds == pytest.approx(4 * 3.0)
