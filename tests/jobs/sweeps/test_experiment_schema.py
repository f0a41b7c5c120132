"""The JSON Schema of experiment files accepts the shipped ones and refuses the product's mistakes."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from engine.config.errors import ConfigError
from jobs.sweeps.experiment_schema import experiment_schema
from jobs.sweeps.plan import plan_sweep
from presets.catalogue import Catalogue

SCHEMA = experiment_schema()
CHECK = Draft202012Validator(SCHEMA)
HEAD = 'base = "demo/baseline"\n'


def product_accepts(values: dict[str, Any]) -> bool:
    try:
        plan_sweep("mine", values, Catalogue())
    except ConfigError:
        return False
    return True


def test_it_is_a_schema_and_every_shipped_experiment_is_valid(repository: Path):
    Draft202012Validator.check_schema(SCHEMA)
    files = sorted((repository / "presets" / "experiments").rglob("*.toml"))
    assert len(files) > 25
    for path in files:
        assert not list(CHECK.iter_errors(tomllib.loads(path.read_text()))), path


@pytest.mark.parametrize(
    "text",
    [
        "",
        'match = "updates"\nscale_schedules = false\nseeds = [3]\nname = "{variant}-{seed}"',
        '[variants."2x"]\nbatch.items = 8\n[variants.plain]',
        '[set]\nschedule.kind = "linear"\n[grid]\noptimizer.lr = [1e-3, 3e-3]\nmodel.strides = [[2], [4]]',
        '[grid]\nmodel.kind = ["audio_unet", "hybrid"]\nschedule.length = ["8 updates"]',
        '[set]\nschedule.warmup = "none"\ncheckpoint.best = "none"\ninit_from = "none"',
        '[grid]\nschedule.warmup = ["none", "8 updates"]\ncheckpoint.best = ["none", ["si_sdr"]]',
    ],
)
def test_what_an_experiment_may_hold_is_valid_for_both(text):
    values = tomllib.loads(HEAD + text)
    assert not list(CHECK.iter_errors(values))
    assert product_accepts(values)


@pytest.mark.parametrize(
    "text",
    [
        'mach = "updates"',
        'match = "update"',
        "seeds = []",
        "seeds = 0",
        "seeds = ['a']",
        "scale_schedules = 1",
        "name = 3",
        "[set]\noptimizer.lrr = 1",
        "[set]\nbatch.items = 0",
        "[variants.a]\nbatch.items = 0",
        "[variants.a]\nbatch.item = 4",
        "[variants]\na = 3",
        "[variants.a]\nmodel.kind = 'unet'",
        "[grid]\noptimizer.lr = 3e-3",
        "[grid]\noptimizer.lr = []",
        "[grid]\noptimizer.lrr = [3e-3]",
        "[grid]\noptimizer.lr = [3e-3, 'fast']",
        "[grid]\nmodel.kind = ['audio_unet', 'unet']",
        "[grid]\nmodel.strides = [2, 4]",
        "seeds = 'none'",
        "[set]\noptimizer.clip_norm = 'none'",
        "[set]\nschedule.length = 'none'",
        "[set]\nschedule = 'none'",
        "[grid]\nschedule.warmup = 'none'",
        "[grid]\nbatch.items = ['none']",
    ],
)
def test_a_mistake_is_refused_by_the_schema_and_by_the_product(text):
    values = tomllib.loads(HEAD + text)
    assert list(CHECK.iter_errors(values))
    assert product_accepts(tomllib.loads(HEAD))
    assert not product_accepts(values)


def test_an_experiment_needs_a_base():
    assert list(CHECK.iter_errors({}))
    assert not product_accepts({})


def test_settings_of_a_preset_do_not_stand_at_the_top():
    assert list(CHECK.iter_errors(tomllib.loads(HEAD + "batch.items = 4")))
    assert list(CHECK.iter_errors(tomllib.loads(HEAD + "[set]\nextends = 'demo/baseline'")))
