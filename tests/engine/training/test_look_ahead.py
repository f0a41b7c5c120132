"""Sums over the whole update reach every step: gradients are those of one batch, however it is divided.

The loss of `fakes/look_ahead.py` has the entropy of a mean code over the update, and a term of another
weight; it is compared with its definition on one batch, without the trainer.
"""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch

from engine.recipes.base import StepContext
from tests.engine.training.fakes import look_ahead as fake
from tests.ranks import start_together
from tests.updates import SPLITS, assert_equal_gradients, limit_memory


def assert_whole(found: dict[str, Any]) -> None:
    """The gradients are those of one batch by the definition."""
    assert_equal_gradients(found["gradients"], fake.one_batch_gradients(fake.batch_of(*range(6))))


@pytest.mark.parametrize("name", SPLITS)
@pytest.mark.parametrize("fits", [100, 2, 1])
@pytest.mark.parametrize("where", ["look", "step"])
def test_gradients_are_those_of_one_batch(name, fits, where):
    recipe = fake.LookingRecipe()
    limit_memory(recipe, fits, where)
    batches = [fake.batch_of(*items) for items in SPLITS[name]]
    found = fake.update(recipe, batches)
    assert_whole(found)
    largest = max(len(items) for items in SPLITS[name])
    looked_at = where == "step" or len(batches) > 1
    assert (found["shortages"] > 0) == (largest > fits and looked_at)


@pytest.mark.parametrize("name", SPLITS)
@pytest.mark.parametrize("fits", [100, 2, 1])
@pytest.mark.parametrize("where", ["look", "step", "begin", "finish"])
def test_steps_that_go_on_from_their_look_have_the_same_gradients(name, fits, where):
    recipe = fake.BeginningRecipe()
    limit_memory(recipe, fits, where)
    found = fake.update(recipe, [fake.batch_of(*items) for items in SPLITS[name]])
    assert_whole(found)
    largest = max(map(len, SPLITS[name]))
    if where == "step" and largest > fits:
        assert found["shortages"] > 0


def test_the_first_piece_is_begun_last_and_finished_first_and_computed_once():
    batches = [fake.batch_of(0, 1), fake.batch_of(2, 3, 4), fake.batch_of(5)]
    recipe, looking = fake.BeginningRecipe(), fake.LookingRecipe()
    found, plain = fake.update(recipe, batches), fake.update(looking, batches)
    assert [(kind, count) for kind, count, _, _ in recipe.passes] == [
        ("look", 3), ("look", 1), ("begin", 2), ("finish", 2), ("step", 3), ("step", 1),
    ]  # fmt: skip
    begin, finish = recipe.passes[2:4]
    (step, *_) = [made for made in looking.passes if made[0] == "step"]
    assert begin[2].key == finish[2].key == step[2].key
    assert finish[2].ahead.keys() == recipe.ahead_shapes.keys()
    # It draws what the step draws, and goes on from there.
    assert begin[3] == step[3] != finish[3]
    # Summed in the same order, so to the bit.
    assert all(map(torch.equal, found["gradients"], plain["gradients"]))
    assert (found["loss"], found["calls"]) == (plain["loss"], plain["calls"])


def test_what_was_begun_is_let_go_when_memory_runs_out():
    recipe = fake.BeginningRecipe()
    held = []
    begin = recipe.begin

    def watched(model, batch, *, context):
        found, finish = begin(model, batch, context=context)
        held.append(weakref.ref(finish))
        return found, finish

    recipe.begin = watched
    limit_memory(recipe, 2, "finish")
    found = fake.update(recipe, [fake.batch_of(0, 1, 2), fake.batch_of(3, 4, 5)])
    assert found["shortages"] == 1
    assert_whole(found)
    gc.collect()
    assert len(held) == 2
    assert [ref() for ref in held] == [None, None]


def test_one_batch_is_looked_at_only_once_it_has_to_be_split():
    batch = fake.batch_of(*range(6))
    recipe = fake.LookingRecipe()
    whole = fake.update(recipe, [batch])
    assert [(kind, count) for kind, count, _, _ in recipe.passes] == [("step", 6)]
    recipe = fake.LookingRecipe()
    limit_memory(recipe, 3, "step")
    split = fake.update(recipe, [batch])
    assert [(kind, count) for kind, count, _, _ in recipe.passes][-4:] == [
        *[("look", 3)] * 2, *[("step", 3)] * 2,
    ]  # fmt: skip
    for found in (whole, split):
        assert_whole(found)
    assert split["loss"] == pytest.approx(whole["loss"], rel=1e-6)


def test_without_the_whole_the_gradients_differ():
    """What the sums are good for: each micro-batch's own mean gives other gradients."""
    recipe = fake.LookingRecipe()
    step = recipe.step
    recipe.step = lambda model, batch, *, context: step(
        model, batch, context=StepContext(ahead=recipe.look_alone(model, batch))
    )
    recipe.look_alone = lambda model, batch: {
        name: value.detach() for name, value in fake.terms(model, batch).items()
    }
    batches = [fake.batch_of(*items) for items in SPLITS["even"]]
    with pytest.raises(AssertionError):
        assert_whole(fake.update(recipe, batches))


def test_the_sums_are_the_same_for_all_steps_and_have_no_gradient():
    recipe = fake.LookingRecipe()
    limit_memory(recipe, 2, "step")
    fake.update(recipe, [fake.batch_of(0, 1, 2, 3), fake.batch_of(4, 5)])
    seen = [context.ahead for kind, _, context, _ in recipe.passes if kind == "step"]
    assert {float(ahead["frames"]) for ahead in seen} == {float(sum(fake.LENGTHS))}
    assert {float(ahead["items"]) for ahead in seen} == {6.0}
    for ahead in seen:
        torch.testing.assert_close(ahead["codes"], seen[0]["codes"], rtol=1e-6, atol=0)
        assert not any(value.requires_grad for value in ahead.values())


def test_looks_and_steps_of_a_piece_draw_the_same_and_buffers_move_once():
    recipe = fake.LookingRecipe()
    limit_memory(recipe, 2, "step")
    found = fake.update(recipe, [fake.batch_of(0, 1, 2), fake.batch_of(3, 4), fake.batch_of(5)])
    # All are looked at first; the step of three items fails, and in the second attempt they are 2 and 1.
    kinds = [(kind, count) for kind, count, _, _ in recipe.passes]
    pieces = [2, 1, 2, 1]
    assert kinds[:3] == [("look", 3), ("look", 2), ("look", 1)]
    assert kinds[3:] == [("look", n) for n in pieces] + [("step", n) for n in pieces]
    looks, steps = recipe.passes[3:7], recipe.passes[7:]
    assert [(p[2].update, p[2].key, p[3]) for p in looks] == [
        (p[2].update, p[2].key, p[3]) for p in steps
    ]
    assert len({draw for *_, draw in steps}) == 4
    assert found["calls"] == found["pieces"] == 4


def test_a_look_that_is_not_finite_skips_the_update():
    recipe = fake.LookingRecipe()
    batches = [fake.batch_of(0, 1), fake.batch_of(2, 3)]
    batches[1].tensors["x"][0, 0] = torch.nan
    assert not torch.isfinite(torch.tensor(fake.update(recipe, batches)["loss"]))


def test_sums_are_fp32_under_autocast():
    recipe = fake.LookingRecipe()
    found = fake.update(
        recipe, [fake.batch_of(0, 1), fake.batch_of(2)], precision={"dtype": "bf16"}
    )
    (*_, (_, _, context, _)) = recipe.passes
    assert {value.dtype for value in context.ahead.values()} == {torch.float32}
    assert torch.isfinite(torch.tensor(found["loss"]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"odd": ()},
            "the ahead_shapes of the recipe's step differ from those it declares in: odd",
        ),
        (
            {"codes": (2,)},
            r"the recipe's 'codes' has shape \(5,\), but `ahead_shapes` declares \(2,\)",
        ),
    ],
)
def test_what_was_not_declared_is_refused(change, message):
    recipe = fake.LookingRecipe()
    recipe.ahead_shapes = {**recipe.ahead_shapes, **change}
    found = fake.LookingRecipe()
    recipe.look = found.look
    with pytest.raises(ValueError, match=message):
        fake.update(recipe, [fake.batch_of(0, 1), fake.batch_of(2)])


def test_a_recipe_that_declares_no_sums_is_not_asked():
    recipe = fake.LookingRecipe()
    recipe.ahead_shapes = {}
    fake.update(recipe, [fake.batch_of(0, 1), fake.batch_of(2)])
    assert [kind for kind, *_ in recipe.passes] == ["step", "step"]


@pytest.mark.slow
def test_two_processes_have_the_gradients_of_one_batch(tmp_path):
    """Also where one has no data, or runs out of memory while it looks or steps."""
    with start_together(fake.__name__, tmp_path) as results:
        first, second = results()
    assert len(first) == 6 * len(SPLITS)
    for name, found in first.items():
        assert_whole(found)
        assert all(map(torch.equal, found["gradients"], second[name]["gradients"]))
    assert (
        first["even, short in look"]["shortages"] == second["even, short in step"]["shortages"] == 2
    )
    assert first["even, short in look"]["pieces"] == 6
    assert first["one batch, short in look"]["shortages"] == 0
    for where in ("begin", "finish"):
        assert first[f"even, short in {where}"]["shortages"] == 2
    # With one micro-batch each, nothing is looked at; one without any has nothing to begin.
    assert first["even, begun"]["kinds"] == second["even, begun"]["kinds"] == ["begin", "finish"]
    assert first["one each, begun"]["kinds"] == [*["look"] * 2, "begin", "finish", *["step"] * 2]
    assert (first["one batch, begun"]["kinds"], second["one batch, begun"]["kinds"]) == (
        ["begin", "finish"], [],
    )  # fmt: skip
