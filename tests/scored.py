"""What every recipe must hold that scores training items: alike where the items are the same, and touching nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from engine.config.loading import load_config
from engine.config.schema import RunConfig
from engine.events import Evaluated
from engine.metrics.registry import of_training_items, stored_name
from engine.torch_random import rng_state
from engine.training.trainer import Trainer
from engine.training.validator import evaluation_mode


def with_valid(config: RunConfig, folder: Path) -> RunConfig:
    """Return a run that is validated on `folder`."""
    values = config.to_dict()
    values["data"]["valid"] = str(folder)
    return load_config(values)


def check_equal_items_score_alike(config: RunConfig, recipe: Any, folder: Path, tools: Any) -> None:
    """Training items in place of the same ones as validation items have the same metrics, to the bit."""
    trainer = Trainer(
        config, recipe, folder=folder, observers=[tools["recorder"]()], control=tools["stop"]()
    )
    trainer.fit()
    assert trainer._state is not None
    model, device = trainer._state.model, torch.device("cpu")
    scored = recipe.on_training_items(10_000)
    with evaluation_mode(model, seed=0):
        own, other = recipe.evaluate(model, device), scored(model, device)
    wanted, found = of_training_items(own.metrics), of_training_items(other.metrics)
    assert stored_name("val_loss", train=True) in found
    assert {name: wanted[name] for name in found} == found
    assert other.clips == ()
    few = recipe.on_training_items(3)
    with evaluation_mode(model, seed=0):
        assert few(model, device).num_items == 3


def check_nothing_is_taken_for_another(recipe: Any, fresh: Any, model: torch.nn.Module) -> None:
    """What is kept of validation items is none of training items, nor the other way round.

    Args:
        recipe: evaluates both.
        fresh: the same, which evaluates training items alone.
        model: what is evaluated.
    """
    device = torch.device("cpu")
    with evaluation_mode(model, seed=0):
        own = recipe.evaluate(model, device)
        scored = recipe.on_training_items(4)(model, device)
        alone = fresh.on_training_items(4)(model, device)
        again = recipe.evaluate(model, device)
    assert scored.metrics == alone.metrics
    assert scored.metrics["val_loss"] != own.metrics["val_loss"] == again.metrics["val_loss"]


def check_nothing_moves(config: RunConfig, make_recipe: Any, folder: Path, tools: Any) -> None:
    """A run that scores training items has the weights, the curves and the validation of one that does not."""
    found = {}
    for number in (8, 0):
        validation = config.validation.model_copy(update={"training_items": number})
        one = config.model_copy(update={"validation": validation})
        recorder = tools["recorder"]()
        Trainer(
            one, make_recipe(one), folder=folder / str(number), observers=[recorder],
            control=tools["stop"](),
        ).fit()  # fmt: skip
        (last,) = sorted((folder / str(number) / "checkpoints").glob("last-*"))[-1:]
        metrics = [dict(event.metrics) for event in recorder.of(Evaluated)]
        found[number] = (
            tools["tensors"](last),
            recorder.curve("loss"),
            metrics,
            rng_state().values,
        )
    with_items, without = found[8], found[0]
    assert with_items[0].keys() == without[0].keys()
    assert all(torch.equal(with_items[0][name], without[0][name]) for name in without[0])
    assert with_items[1] == without[1]
    assert with_items[3] == without[3]
    for scored, plain in zip(with_items[2], without[2], strict=True):
        assert stored_name("val_loss", train=True) in scored
        assert "overfit_gap" in scored
        assert not any("_train" in name or "overfit" in name for name in plain)
        assert {name: scored[name] for name in plain} == plain
