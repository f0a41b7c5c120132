"""Configs that are allowed but hardly meant, before a run starts."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field

from engine.config.unlabelled import UnlabelledData
from engine.recipes.specs import RecipeSpec
from engine.training.run_warnings import run_warnings
from engine.tuning.setups import Options
from engine.tuning.switches import switches
from engine.tuning.trials import Facts
from models.self_supervised.settings import HubertConfig
from models.speech_configs import CtcEncoderConfig


def biased(config, conv_bias):
    """Return the config with a model that has the setting; None: without it."""
    if conv_bias is None:
        return config
    kind = type(config.model)
    names = {"__annotations__": {"conv_bias": bool}, "conv_bias": Field(True)}
    model = type("Biased", (kind,), names)(conv_bias=conv_bias)
    return config.model_copy(update={"model": model})


@pytest.mark.parametrize(
    ("dtype", "conv_bias", "expected"),
    [
        ("fp16", False, 1),
        ("fp16", True, 0),
        ("bf16", False, 0),
        ("auto", False, 0),
        ("fp16", None, 0),
    ],
)
def test_float16_without_a_bias_is_warned_of_with_the_reason(
    make_config, dtype, conv_bias, expected
):
    config = biased(make_config(precision={"dtype": dtype}), conv_bias)
    found = run_warnings(config)
    assert len(found) == expected
    for text in found:
        assert "overflow in float16" in text
        assert "precision.dtype = auto or bf16, or set model.conv_bias = true" in text


@pytest.mark.parametrize("kind", [HubertConfig, CtcEncoderConfig])
def test_the_encoders_that_are_shipped_are_warned_of(make_config, kind):
    """Their convolutions have no bias unless one asks for it; also where they are fine-tuned."""
    config = make_config(precision={"dtype": "fp16"})
    for model, expected in ((kind(), 1), (kind(conv_bias=True), 0)):
        assert len(run_warnings(config.model_copy(update={"model": model}))) == expected


@pytest.mark.parametrize(("gives_features", "expected"), [(True, 0), (None, 1), (False, 1)])
def test_a_probe_that_no_evaluation_may_measure_is_warned_of(
    make_config, monkeypatch, gives_features, expected
):
    """Recipes of packages need not derive from `PretrainingRecipe`, which measures it."""
    spec = RecipeSpec("toy", "a toy", "toy:open", gives_features=gives_features)
    monkeypatch.setattr("engine.training.run_warnings.spec_of", lambda name: spec)
    config = make_config()
    assert run_warnings(config) == []
    data = UnlabelledData(train=Path("a"), valid=Path("b"), probe=Path("labels.jsonl"))
    found = run_warnings(config.model_copy(update={"data": data}))
    assert len(found) == expected
    assert all(text.startswith("data.probe is set, but the recipe") for text in found)


def test_warnings_of_the_schedule_are_among_them(make_config):
    config = make_config(schedule={"length": "10 updates", "warmup": "20 updates"})
    assert run_warnings(config) == ["schedule.warmup takes 20 updates, but the run ends after 10"]


@pytest.mark.parametrize(("conv_bias", "tried"), [(False, False), (True, True), (None, True)])
def test_tuning_does_not_try_float16_where_it_overflows(make_config, conv_bias, tried):
    facts = Facts("cuda", "x", 1, 1, 1, formats=("fp32", "bf16", "fp16"))
    found = list(switches(biased(make_config(), conv_bias), facts, options=Options()))
    assert ("precision.dtype", "bf16") in found
    assert (("precision.dtype", "fp16") in found) is tried
