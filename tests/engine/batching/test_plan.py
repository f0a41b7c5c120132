"""The plan: every item once per epoch, any update from nothing but its number."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.batching.items import ItemDraw, MicroBatch
from engine.batching.plan import FixedPlan

sizes = st.integers(1, 40)
PINNED_UPDATE = [MicroBatch((ItemDraw(0, 0), ItemDraw(0, 4))), MicroBatch((ItemDraw(0, 2),))]
PINNED_HASH = "14351427c8fb0cd8"


@settings(max_examples=100, deadline=None)
@given(num_items=sizes, per_update=sizes, micro_batch=sizes, seed=st.integers(0, 2**31 - 1))
def test_every_item_exactly_once_per_epoch(
    num_items: int, per_update: int, micro_batch: int, seed: int
) -> None:
    plan = FixedPlan(num_items, per_update, micro_batch=micro_batch, seed=seed)
    epochs = 3
    updates = -(-epochs * num_items // per_update)
    stream = [draw for update in range(updates) for draw in plan.update_items(update)]
    for epoch in range(epochs):
        part = stream[epoch * num_items : (epoch + 1) * num_items]
        assert {draw.epoch for draw in part} == {epoch}
        assert sorted(draw.index for draw in part) == list(range(num_items))


@settings(max_examples=50, deadline=None)
@given(num_items=sizes, per_update=sizes, micro_batch=sizes, order=st.permutations(range(8)))
def test_an_update_depends_on_its_number_only(
    num_items: int, per_update: int, micro_batch: int, order: list[int]
) -> None:
    plan = FixedPlan(num_items, per_update, micro_batch=micro_batch, seed=1)
    in_order = [plan.update_items(update) for update in range(8)]
    for update in order:
        assert (
            FixedPlan(num_items, per_update, micro_batch=1, seed=1).update_items(update)
            == in_order[update]
        )
        assert plan.update_items(update) == in_order[update]


@settings(max_examples=50, deadline=None)
@given(num_items=sizes, per_update=sizes, micro_batch=sizes)
def test_micro_batches_hold_the_update_in_order(
    num_items: int, per_update: int, micro_batch: int
) -> None:
    plan = FixedPlan(num_items, per_update, micro_batch=micro_batch, seed=2)
    packed = plan.micro_batches(5)
    assert [draw for batch in packed for draw in batch.draws] == plan.update_items(5)
    assert len(packed) == plan.micro_batches_per_update
    assert all(len(batch) == micro_batch for batch in packed[:-1])
    assert 1 <= len(packed[-1]) <= micro_batch


def test_an_update_larger_than_the_dataset_spans_epochs() -> None:
    draws = FixedPlan(2, 5, micro_batch=5, seed=0).update_items(0)
    assert [draw.epoch for draw in draws] == [0, 0, 1, 1, 2]


def test_epochs_and_seeds_differ_in_order() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return [
            draw.index
            for draw in FixedPlan(100, 100, micro_batch=100, seed=seed).update_items(epoch)
        ]

    assert order(0, 0) != order(0, 1)
    assert order(0, 0) != order(1, 0)
    assert order(0, 0) != list(range(100))


def test_plans_are_pinned_so_that_old_runs_can_be_resumed() -> None:
    plan = FixedPlan(5, 3, micro_batch=2, seed=0)
    assert plan.micro_batches(0) == PINNED_UPDATE
    assert plan.hash == PINNED_HASH


def test_hash_names_the_data_and_not_the_packing() -> None:
    plan = FixedPlan(10, 4, micro_batch=4, seed=0, manifest="files")
    assert plan.hash == FixedPlan(10, 4, micro_batch=1, seed=0, manifest="files").hash
    others = [
        FixedPlan(11, 4, micro_batch=4, seed=0, manifest="files"),
        FixedPlan(10, 5, micro_batch=4, seed=0, manifest="files"),
        FixedPlan(10, 4, micro_batch=4, seed=1, manifest="files"),
        FixedPlan(10, 4, micro_batch=4, seed=0, manifest="other files"),
    ]
    assert len({plan.hash, *(other.hash for other in others)}) == 5


@pytest.mark.parametrize("name", ["num_items", "items_per_update", "micro_batch"])
def test_empty_plans_are_refused(name: str) -> None:
    values = {"num_items": 1, "items_per_update": 1, "micro_batch": 1, "seed": 0, name: 0}
    with pytest.raises(ValueError, match=f"{name} must be at least 1, found 0"):
        FixedPlan(**values)
