"""The trainer's updates have the gradients of one batch: in parts, with little memory, in two processes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.batching.items import ItemDraw, MicroBatch
from engine.config.schema import RunConfig
from engine.recipes.base import KeepsState, LooksAhead, StepContext
from engine.recipes.self_supervised.wav2vec2 import Wav2Vec2Recipe
from engine.recipes.whole_update import BeginsSteps
from models.self_supervised.wav2vec2 import Wav2Vec2
from tests.engine.recipes.self_supervised.fakes import updates as script
from tests.engine.recipes.self_supervised.fakes.updates import STILL, opened, update
from tests.pretraining import pretraining
from tests.ranks import start_together
from tests.updates import SPLITS, assert_equal_updates

KINDS = ("hubert", "wav2vec2", "data2vec2")


@pytest.fixture
def configs(
    tones: Path,
    wav2vec2_config: Callable[..., RunConfig],
    data2vec2_config: Callable[..., RunConfig],
) -> Mapping[str, RunConfig]:
    """A tiny run of each recipe."""
    exact = {"clip_norm": 0.0}
    # Terms of unlike weights: masked frames, all others, and a penalty over both.
    loss = {"normalize": "separate", "unmasked_weight": 0.3, "penalty_frames": "all"}
    return {
        "hubert": pretraining(tones, loss=loss, data={"min_s": 0.1}, optimizer=exact),
        "wav2vec2": wav2vec2_config(loss={"diversity_weight": 3.0}, optimizer=exact),
        # Adam divides what rounding leaves of a gradient near 0 by itself: a large epsilon keeps that
        # small, so that the teacher can be compared.
        "data2vec2": data2vec2_config(model=STILL, optimizer={"eps": 1.0, **exact}),
    }


def assert_same(found: Mapping[str, Any], whole: Mapping[str, Any]) -> None:
    """Gradients, loss and curves, and what the recipe keeps beside the weights."""
    assert_equal_updates(found, whole)
    for ours, theirs in zip(found["state"], whole["state"], strict=True):
        assert (ours - theirs).abs().max() < 1e-6


@pytest.mark.parametrize("kind", [*KINDS, "conformer"])
def test_parts_that_are_compiled_are_called(
    configs: Mapping[str, RunConfig], wav2vec2_config: Callable[..., RunConfig], kind: str
) -> None:
    conformer = {"encoder": "conformer", "conformer_kernel": 3}
    config = wav2vec2_config(model=conformer) if kind == "conformer" else configs[kind]
    recipe = opened(config)
    model = recipe.build_model()
    called: set[str] = set()
    for name in model.compiled_parts:
        part = model.get_submodule(name)
        part.register_forward_hook(lambda module, args, out, name=name: called.add(name))
    if isinstance(recipe, KeepsState):
        recipe.start_state(model, torch.device("cpu"))
    recipe.step(model, recipe.fetch("train", MicroBatch((ItemDraw(0, 0),))), context=StepContext())
    assert called
    assert called == set(model.compiled_parts)


@pytest.mark.parametrize("kind", KINDS)
def test_validation_draws_are_those_of_every_seed(
    configs: Mapping[str, RunConfig], kind: str
) -> None:
    """Or items of runs with other seeds could not be paired."""
    item = MicroBatch((ItemDraw(0, 0),))
    for split, equal in (("valid", True), ("train", False)):
        first, second = (
            opened(configs[kind].model_copy(update={"seed": seed})).fetch(split, item).tensors
            for seed in (1, 2)
        )
        assert all(torch.equal(first[name], second[name]) for name in first) == equal


@pytest.mark.parametrize("kind", KINDS)
def test_parts_and_short_memory_make_the_update_of_one_batch(
    configs: Mapping[str, RunConfig], kind: str
) -> None:
    config = configs[kind]
    whole = update(config, "one batch")
    for name in SPLITS:
        assert_same(update(config, name), whole)
    recipe = opened(config)
    looks = ("look",) if isinstance(recipe, LooksAhead) else ()
    begins = ("begin", "finish") if isinstance(recipe, BeginsSteps) else ()
    for where in ("step", *looks, *begins):
        for fits in (1, 2):
            found = update(config, "even", fits=fits, where=where)
            assert found["shortages"] > 0
            assert_same(found, whole)


def test_wav2vec2_goes_on_from_what_it_looked_at_with_the_same_draws(
    wav2vec2_config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each dropout is on; without `begin`, the first micro-batch is looked at and computed again."""
    rates = dict.fromkeys(("dropout", "attention_dropout", "projection_dropout"), 0.2)
    config = wav2vec2_config(model={**rates, "feature_dropout": 0.3, "layer_drop": 0.3})
    calls: list[str] = []
    convolved = Wav2Vec2._features

    def counted(model: Wav2Vec2, *args: Any) -> Any:
        calls.append("convolutions")
        return convolved(model, *args)

    monkeypatch.setattr(Wav2Vec2, "_features", counted)
    found = {name: update(config, name) for name in SPLITS}
    begun = len(calls)
    monkeypatch.delattr(Wav2Vec2Recipe, "begin")
    for name in SPLITS:
        looked = update(config, name)
        assert all(map(torch.equal, found[name]["gradients"], looked["gradients"]))
        assert found[name]["loss"] == looked["loss"]
        np.testing.assert_array_equal(found[name]["metrics"], looked["metrics"])
    # One micro-batch of each that is looked at is not computed twice.
    assert len(calls) - begun == begun + sum(len(split) > 1 for split in SPLITS.values())


@pytest.mark.slow
def test_two_processes_make_the_update_of_one_batch(
    configs: Mapping[str, RunConfig], tmp_path: Path
) -> None:
    """Also where one has no data, or memory for one item."""
    values = json.dumps({kind: config.to_dict() for kind, config in configs.items()})
    with start_together(script.__name__, tmp_path, arguments=[values]) as results:
        whole = {kind: update(config, "one batch") for kind, config in configs.items()}
        first, second = results()
    assert first.keys() == second.keys() == set(KINDS)
    for kind, made in first.items():
        assert made.keys() == {*SPLITS, "short"}
        assert made["short"]["shortages"] > 0
        for name, found in made.items():
            assert_same(found, whole[kind])
            other = second[kind][name]
            for part in ("gradients", "state"):
                assert all(map(torch.equal, found[part], other[part]))
            # What is not known of made-up labels is NaN in both.
            np.testing.assert_array_equal(
                [found["loss"], *found["metrics"]], [other["loss"], *other["metrics"]]
            )
