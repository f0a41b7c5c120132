"""Sums over the whole update reach every step: gradients are those of one batch, however it is divided.

The loss of `fakes/look_ahead.py` has the entropy of a mean code over the update, and a term of another
weight; it is compared with its definition on one batch, without the trainer.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from engine.training.ranks import Alone

SCRIPT = Path(__file__).parent / "fakes" / "look_ahead.py"
LOOPBACK = "lo" if sys.platform == "linux" else "lo0"
NAMES = ["even", "ragged", "one each", "a rank without data"]


@pytest.fixture(scope="module")
def fake() -> ModuleType:
    """The recipe and its updates, as a module."""
    spec = importlib.util.spec_from_file_location("fake_look_ahead", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def assert_whole(fake: ModuleType, found: dict[str, Any]) -> None:
    """The gradients are those of one batch, within 1e-6 of the largest."""
    whole = fake.one_batch_gradients(fake.batch_of(*range(6)))
    scale = max(gradient.abs().max() for gradient in whole)
    assert len(found["gradients"]) == len(whole)
    for ours, theirs in zip(found["gradients"], whole, strict=True):
        assert (ours - theirs).abs().max() < 1e-6 * scale


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("fits", [100, 2, 1])
@pytest.mark.parametrize("where", ["look", "step"])
def test_gradients_are_those_of_one_batch(fake, name, fits, where):
    recipe = fake.LookingRecipe(fits=fits, where=where)
    batches = [fake.batch_of(*items) for items in fake.SPLITS[name]]
    found = fake.update(recipe, Alone(), batches)
    assert_whole(fake, found)
    largest = max(len(items) for items in fake.SPLITS[name])
    assert (found["shortages"] > 0) == (largest > fits)


def test_without_the_whole_the_gradients_differ(fake):
    """What the sums are good for: each micro-batch's own mean gives other gradients."""
    recipe = fake.LookingRecipe()
    step = recipe.step
    recipe.step = lambda model, batch, *, context: step(
        model, batch, context=fake.StepContext(ahead=recipe.look_alone(model, batch))
    )
    recipe.look_alone = lambda model, batch: {
        name: value.detach() for name, value in fake.terms(model, batch).items()
    }
    batches = [fake.batch_of(*items) for items in fake.SPLITS["even"]]
    with pytest.raises(AssertionError):
        assert_whole(fake, fake.update(recipe, Alone(), batches))


def test_the_sums_are_the_same_for_all_steps_and_have_no_gradient(fake):
    recipe = fake.LookingRecipe(fits=2)
    fake.update(recipe, Alone(), [fake.batch_of(0, 1, 2, 3), fake.batch_of(4, 5)])
    seen = [context.ahead for kind, _, context, _ in recipe.passes if kind == "step"]
    assert {float(ahead["frames"]) for ahead in seen} == {float(sum(fake.LENGTHS))}
    assert {float(ahead["items"]) for ahead in seen} == {6.0}
    for ahead in seen:
        torch.testing.assert_close(ahead["codes"], seen[0]["codes"], rtol=1e-6, atol=0)
        assert not any(value.requires_grad for value in ahead.values())


def test_looks_and_steps_of_a_piece_draw_the_same_and_buffers_move_once(fake):
    recipe = fake.LookingRecipe(fits=2)
    found = fake.update(
        recipe, Alone(), [fake.batch_of(0, 1, 2), fake.batch_of(3, 4), fake.batch_of(5)]
    )
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


def test_a_look_that_is_not_finite_skips_the_update(fake):
    recipe = fake.LookingRecipe()
    batches = [fake.batch_of(0, 1), fake.batch_of(2, 3)]
    batches[1].tensors["x"][0, 0] = torch.nan
    assert not torch.isfinite(torch.tensor(fake.update(recipe, Alone(), batches)["loss"]))


def test_sums_are_fp32_under_autocast(fake):
    recipe = fake.LookingRecipe()
    found = fake.update(
        recipe, Alone(), [fake.batch_of(0, 1), fake.batch_of(2)], precision={"dtype": "bf16"}
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
def test_what_was_not_declared_is_refused(fake, change, message):
    recipe = fake.LookingRecipe()
    recipe.ahead_shapes = {**recipe.ahead_shapes, **change}
    found = fake.LookingRecipe()
    recipe.look = found.look
    with pytest.raises(ValueError, match=message):
        fake.update(recipe, Alone(), [fake.batch_of(0, 1)])


def test_a_recipe_that_declares_no_sums_is_not_asked(fake):
    recipe = fake.LookingRecipe()
    recipe.ahead_shapes = {}
    with pytest.raises(KeyError, match="codes"):
        fake.update(recipe, Alone(), [fake.batch_of(0, 1)])
    assert [kind for kind, *_ in recipe.passes] == ["step"]


@pytest.mark.slow
def test_two_processes_have_the_gradients_of_one_batch(fake, repository, tmp_path):
    """Also where one has no data, or runs out of memory while it looks or steps."""
    environment = {
        **os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": LOOPBACK, "PYTHONPATH": str(repository),
    }  # fmt: skip
    processes = [
        subprocess.Popen(
            [sys.executable, "-P", str(SCRIPT), str(rank), "2", str(tmp_path)],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    try:
        said = [process.communicate(timeout=100)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], said
    first, second = (torch.load(tmp_path / f"rank-{rank}.pt") for rank in range(2))
    assert len(first) == 12
    for name, found in first.items():
        assert_whole(fake, found)
        assert all(map(torch.equal, found["gradients"], second[name]["gradients"]))
    assert (
        first["even, short in look"]["shortages"] == second["even, short in step"]["shortages"] == 2
    )
    assert first["even, short in look"]["pieces"] == 6
    assert first["a rank without data, short in look"]["shortages"] == 0
