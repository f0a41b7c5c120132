"""The JSON Schema of presets accepts what the product accepts, and refuses the same mistakes."""

from __future__ import annotations

import tomllib
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from engine.config.errors import ConfigError
from engine.config.fields import list_settings
from engine.config.json_schema import preset_schema, settings_definitions
from engine.config.loading import load_config
from engine.config.span import Span
from presets.merging import merge

SCHEMA = preset_schema()
CHECK = Draft202012Validator(SCHEMA)
BASE = {"data": {"kind": "bandwidth", "train": "a", "valid": "b"}}
SPEECH = {
    "data": {"kind": "speech", "train": "a", "valid": "b"},
    "model": {"kind": "conformer_rnnt"},
    "loss": {"kind": "rnnt"},
}


def product_accepts(values: dict[str, Any]) -> bool:
    try:
        load_config(values)
    except ConfigError:
        return False
    return True


def from_toml(text: str) -> dict[str, Any]:
    return tomllib.loads(text)


def test_it_is_a_schema():
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def shipped(repository: Path) -> list[Path]:
    files = (repository / "presets").rglob("*.toml")
    return sorted(path for path in files if "experiments" not in path.parts)


def test_every_shipped_preset_is_valid(repository):
    assert len(shipped(repository)) > 20
    for path in shipped(repository):
        assert not list(CHECK.iter_errors(from_toml(path.read_text()))), path


@pytest.mark.parametrize("base", [BASE, SPEECH])
def test_a_preset_with_every_setting_is_valid(base):
    whole = without_none(load_config(base).to_dict())
    assert not list(CHECK.iter_errors(whole))


def without_none(values: Any) -> Any:
    if isinstance(values, dict):
        return {key: without_none(item) for key, item in values.items() if item is not None}
    return values


@pytest.mark.parametrize(
    "text",
    [
        "",
        'extends = "denoise/small"\ndescription = "Mine"',
        "model.width = 8",
        "model.spec_strides = [2]",
        'data.noise = "noise"\ndata.snr_low_db = -3',
        'schedule.length = " 1_000.5e1 updates "\nschedule.milestones = ["0 updates", "25 audio_seconds"]',
        'schedule.warmup = "0 updates"',
        'schedule.length = "0.5 audio_seconds"',
        "optimizer.lr = 1",
        "batch.bin_ends = [[8.0, 40], [16.0, 80]]",
    ],
)
def test_what_a_preset_may_hold_is_valid(text):
    assert not list(CHECK.iter_errors(from_toml(text)))


MISTAKES = [
    "optimizer.lrr = 3e-3",
    "modle.width = 8",
    "lr = 3e-3",
    "model.widht = 8",
    "data.trian = 'a'",
    "batch.items = 0",
    "batch.items = 65_537",
    "batch.items = true",
    "batch.items = '4'",
    "batch.items = 4.5",
    "batch.bin_ends = [[8.0, 40, 1]]",
    "batch.bin_ends_s = [0.0]",
    "ema.enabled = 1",
    "ema.decay = 1.0",
    "ema.decay = true",
    "optimizer.lr = 'fast'",
    "optimizer.lr = 0",
    "optimizer = 3",
    "loss.kind = 'l3'",
    "loss.windows = [1]",
    "loss.windows = []",
    "loss.windows = 64",
    "model.kind = 'audio_unt'",
    "model.kind = 'hybrid'\nmodel.mask_layers = 8",
    "data.kind = 'stemz'",
    "data.valid = 3",
    "data.input_rates_hz = ['8000']",
    "precision.dtype = 'fp64'",
    "schedule.length = '10 epoch'",
    "schedule.length = '10updates'",
    "schedule.length = 'ten updates'",
    "schedule.length = '-1 updates'",
    "schedule.length = 10",
    "schedule.length = '0 updates'",
    "schedule.length = ' 0_0.00e5 updates'",
    "schedule.milestones = '5 updates'",
    "schedule.milestones = ['5 update']",
    "validation.every = '0.0 updates'",
    "validation.full_every = '0 updates'\nvalidation.full_files = true",
    "checkpoint.best = ['si_snr']",
    "checkpoint.keep_last = 101",
    "logging.wandb = false",
    "seed = -1",
    "seed = 'x'",
]


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_is_refused_by_the_schema_and_by_the_product(text):
    mistake = from_toml(text)
    assert list(CHECK.iter_errors(mistake))
    assert product_accepts(BASE)
    assert not product_accepts(merge(BASE, mistake))


@pytest.mark.parametrize("text", ["description = 3", "extends = ['demo/baseline']", "extends = ''"])
def test_the_head_of_a_preset_is_checked(text):
    assert list(CHECK.iter_errors(from_toml(text)))


def test_every_setting_has_its_help_default_and_unit():
    """Whatever `list_settings` knows stands in the schema."""
    described = defaultdict(list)
    for node in settings_definitions().values():
        for inner in node["properties"].values():
            described[inner["description"].split(" [")[0]].append(inner)
    for item in list_settings():
        nodes = described[item.help]
        if item.unit and item.unit not in ("span", "path"):
            assert any(node["description"].endswith(f" [{item.unit}]") for node in nodes), item.key
        if item.type_name in ("int", "float", "bool", "span"):
            default = str(item.default) if isinstance(item.default, Span) else item.default
            assert default in [node.get("default") for node in nodes], item.key


def test_bounds_and_choices_are_those_of_the_settings():
    batch = SCHEMA["$defs"]["BatchConfig"]["properties"]
    assert (batch["items"]["minimum"], batch["items"]["maximum"]) == (1, 65_536)
    assert batch["cap_s"]["anyOf"][0]["exclusiveMinimum"] == 0
    assert "default" not in batch["cap_s"]
    assert batch["mode"]["enum"][0] == "exact"
    assert SCHEMA["properties"]["seed"]["maximum"] == 2**31 - 1


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("model.widht = 8", "'widht' is not one of"),
        ("data.kind = 'stemz'", "'stemz' is not one of"),
    ],
)
def test_a_typo_in_a_section_of_several_kinds_is_named(text, word):
    assert any(word in error.message for error in CHECK.iter_errors(from_toml(text)))
