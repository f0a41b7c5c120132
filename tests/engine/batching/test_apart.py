"""Pieces of one utterance do not meet in the updates of a pool, where updates are of items of like length."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

from engine.batching.apart import apart
from engine.batching.open_plan import open_plan
from engine.batching.recipe_plan import plan_of
from engine.batching.report import report_on
from engine.config.batch import BatchConfig
from engine.recipes.registry import open_recipe
from tests.engine.batching.test_crops import config_of
from tests.pretraining import pretraining


def cut(seconds, most_s):
    """Return lengths and groups of pieces, cut as the data of self-supervised recipes are."""
    counts = np.where(seconds > most_s, np.ceil(seconds / (most_s - 0.04)), 1).astype(int)
    return np.repeat(seconds / counts, counts)[:, None], np.repeat(np.arange(len(seconds)), counts)


def met(plan, group_N, updates=160):
    """Return the share of updates with two items of a group, and that of distinct groups in an update."""
    found = [group_N[plan.update_items(update)[1]] for update in range(updates)]
    distinct = np.array([len(np.unique(groups)) / len(groups) for groups in found])
    return float((distinct < 1).mean()), float(distinct.mean())


SETS = {
    "minutes, small updates": (cut(np.random.default_rng(0).uniform(30, 180, 60), 6.0), {"items": 8}, 8),
    "minutes, in seconds": (
        cut(np.random.default_rng(1).uniform(20, 120, 500), 15.6), {"seconds": 500.0}, 32,
    ),
    "a little too long": (cut(np.random.default_rng(2).uniform(7, 20, 300), 6.0), {"items": 8}, 8),
}  # fmt: skip


@pytest.mark.parametrize("name", SETS)
def test_pieces_meet_no_more_often_than_at_random_and_packing_stays(name):
    (sizes, group_N), amount, pool = SETS[name]

    def opened(groups=None, **batch):
        config = config_of(micro_batch=64, worst_first=False, **amount, **batch)
        return open_plan(config, sizes, manifest="", groups=groups)

    at_random = opened()
    together, apart = opened(pool_updates=pool), opened(group_N, pool_updates=pool)
    # The reason for all this, so that the test can fail.
    assert met(together, group_N)[0] > met(at_random, group_N)[0] + 0.3
    assert met(apart, group_N)[0] <= 0.05 < met(at_random, group_N)[0]
    lost = [report_on(plan, sizes).cropped_share for plan in (together, apart, at_random)]
    assert lost[1] < lost[0] + 0.03
    assert lost[1] < lost[2] / 2


def test_an_item_of_two_epochs_is_kept_apart_too():
    sizes = np.random.default_rng(0).uniform(1.25, 2.5, (40, 1))
    config = config_of(items=8, pool_updates=8, micro_batch=8)
    together = open_plan(config, sizes, manifest="")
    apart = open_plan(config, sizes, manifest="", groups=np.arange(40))
    assert met(together, np.arange(40))[0] > 0.9
    assert met(apart, np.arange(40))[0] == 0


@pytest.mark.parametrize("amount", [{"items": 8}, {"seconds": 40.0}])
def test_a_plan_is_still_one_of_sizes_groups_and_seed(amount):
    sizes, group_N = cut(np.random.default_rng(3).uniform(5, 60, 30), 6.0)
    config = config_of(pool_updates=6, micro_batch=3, **amount)
    plans = [
        open_plan(config, sizes, manifest="", groups=group_N, rank=rank, world=world)
        for rank, world in ((0, 1), (1, 3))
    ]
    one, other = plans
    assert one.hash == other.hash
    # Asked in any order, as after a resume, for any number of processes.
    later = {update: other.update_items(update) for update in reversed(range(42))}
    seen = []
    for update in later:
        for mine, theirs in zip(one.update_items(update), later[update], strict=True):
            assert np.array_equal(mine, theirs)
        seen += list(zip(*(part.tolist() for part in later[update]), strict=True))
    # Nothing is lost or doubled.
    assert len(set(seen)) == len(seen)
    first = [item for epoch, item in seen if epoch == 0]
    assert sorted(first) == list(range(len(sizes)))


def test_plans_without_groups_are_what_they_were():
    sizes = np.random.default_rng(0).uniform(2.0, 15.0, (400, 1))
    for pool in (1, 8):
        config = config_of(items=12, pool_updates=pool)
        bare = open_plan(config, sizes, manifest="m")
        grouped = open_plan(config, sizes, manifest="m", groups=np.arange(400))
        assert (bare.hash == grouped.hash) == (pool == 1)
    # As an earlier version named and dealt them: its runs go on.
    assert bare.hash == "2fce7ceb5ace1fd6"
    assert bare.update_items(5)[1].tolist() == [
        194,
        275,
        198,
        279,
        122,
        95,
        382,
        156,
        71,
        103,
        393,
        357,
    ]


@pytest.mark.parametrize("count", [1, 2, 7, 10, 40, 80])
def test_a_group_is_drawn_out_around_where_it_lies(count):
    group_G = np.arange(80)
    first = min(20, 80 - count)
    group_G[first : first + count] = 20
    updates = np.split(np.arange(80), 10)
    apart(updates, np.arange(80.0), group_G=group_G)
    assert sorted(np.concatenate(updates)) == list(range(80))
    each = [int((group_G[update] == 20).sum()) for update in updates]
    assert max(each) == -(-count // 10)
    assert sum(each) == count
    if count == 7:
        # Updates 2 and 3 had all of them.
        assert each == [1, 1, 1, 1, 1, 1, 1, 0, 0, 0]
    moved = [item // 8 != number for number, update in enumerate(updates) for item in update]
    assert sum(moved) <= 2 * count


def test_recipes_of_audio_without_texts_know_the_pieces_of_an_utterance(tmp_path):
    for split in ("train", "valid"):
        (tmp_path / split).mkdir()
        for name, seconds in {"a": 9.0, "b": 3.0, "c": 17.0}.items():
            soundfile.write(
                tmp_path / split / f"{name}.wav", np.zeros(int(16_000 * seconds)), 16_000
            )
    recipe = open_recipe(pretraining(tmp_path, data={"max_s": 4.0}))
    groups, sizes = recipe.groups("train"), recipe.sizes("train")[:, 0]
    found = {int(group): sizes[groups == group].sum() for group in np.unique(groups)}
    assert sorted(found.values()) == pytest.approx([3.0, 9.0, 17.0])
    assert len(groups) == len(sizes) == 3 + 1 + 5
    # The plan that is trained by knows them.
    pooled = recipe._config.model_copy(update={"batch": BatchConfig(items=2, pool_updates=3)})
    plan = plan_of(pooled, recipe)
    assert np.array_equal(plan.groups, groups)
