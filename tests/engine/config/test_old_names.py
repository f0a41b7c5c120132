"""Values of an older version: upgraded in one place, whoever reads them."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from engine.config import old_names
from engine.config.counters import Counters
from engine.config.loading import load_config
from engine.config.overrides import config_with
from engine.config.span import Span
from presets.merging import merge

VALUES: dict[str, Any] = {
    "data": {"kind": "denoise", "train": "a", "valid": "b", "noise": "c"},
    "optimizer": {"lr": 0.01},
}


def test_values_of_this_version_come_back_as_they_are() -> None:
    assert old_names.upgraded(VALUES) == VALUES


OLD = {"windows": [2048, 1024, 512, 256, 128, 64, 32], "reduction": "mean"}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"kind": "si_sdr", **OLD}, {"kind": "si_sdr"}),
        ({"kind": "l1", "windows": [512], "reduction": "sum"}, {"kind": "l1"}),
        ({"kind": "si_sdr", "reduction": "mean"}, {"kind": "si_sdr"}),
        ({"kind": "rnnt", "windows": OLD["windows"]}, {"kind": "rnnt"}),
        ({"kind": "spectral", "windows": [512], "reduction": "sum"}, None),
        ({"kind": "si_sdr", "reduction": "sum"}, None),
        ({"kind": "another", **OLD}, None),
    ],
)
def test_the_flat_loss_section_keeps_what_its_kind_has(
    old: dict[str, Any], new: dict[str, Any] | None
) -> None:
    values = {**VALUES, "loss": old}
    upgraded = old_names.upgraded(values)
    assert upgraded["loss"] == (old if new is None else new)
    assert old_names.upgraded(upgraded) == upgraded
    assert values["loss"] is old


def test_an_old_config_is_that_of_the_run_it_was_saved_for() -> None:
    old = load_config({**VALUES, "loss": {"kind": "si_sdr", **OLD}})
    new = load_config({**VALUES, "loss": {"kind": "si_sdr"}})
    assert old == new
    assert old.fingerprint == new.fingerprint
    assert old.to_dict()["loss"] == {"kind": "si_sdr"}


def test_steps_run_in_order_before_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    def rate(values: dict[str, Any]) -> dict[str, Any]:
        section = dict(values.get("optimizer", {}))
        if "rate" in section:
            section["speed"] = section.pop("rate")
        return {**values, "optimizer": section}

    def speed(values: dict[str, Any]) -> dict[str, Any]:
        section = dict(values["optimizer"])
        if "speed" in section:
            section["lr"] = section.pop("speed")
        return {**values, "optimizer": section}

    monkeypatch.setattr(old_names, "STEPS", (rate, speed))
    old = {**VALUES, "optimizer": {"rate": 0.01}}
    assert load_config(old) == load_config(VALUES)
    assert old["optimizer"] == {"rate": 0.01}


def test_a_clock_is_read_by_its_old_name_and_written_by_its_new_one() -> None:
    assert Span.parse("6_400 samples") == Span(6400, "items")
    assert str(Span.parse("6400 samples")) == "6400 items"


def test_an_old_preset_makes_the_same_config() -> None:
    old = {
        **VALUES,
        "schedule": {"length": "6400 samples", "milestones": ["1 samples", "2 updates"]},
        "ema": {"per": " 1_6.5  samples "},
    }
    new = {
        **VALUES,
        "schedule": {"length": "6400 items", "milestones": ["1 items", "2 updates"]},
        "ema": {"per": "16.5 items"},
    }
    assert load_config(old) == load_config(new)
    assert load_config(old).fingerprint == load_config(new).fingerprint
    assert old_names.upgraded(old)["schedule"] == new["schedule"]


def test_old_words_are_read_from_an_assignment() -> None:
    assert config_with(VALUES, ["schedule.length=64 samples"]).schedule.length == Span(64, "items")


@pytest.mark.parametrize("text", ["6 samples", "4 samples"])
def test_only_spans_are_renamed(text: str) -> None:
    """A folder may be called like a span."""
    values = {"data": {"train": text}, "logging": {"wandb_project": "two samples"}}
    assert old_names.upgraded(values) == values


def test_what_is_wrong_stays_as_it_is() -> None:
    for values in ({"schedule": 3, "ema": None}, {"schedule": {"length": "samples"}}, {}):
        assert old_names.upgraded(values) == values


def test_clips_are_read_by_their_old_name() -> None:
    assert load_config({**VALUES, "validation": {"samples": 2}}).validation.clips == 2
    assert config_with(VALUES, [" validation.samples = 3"]).validation.clips == 3


@pytest.mark.parametrize(
    ("section", "clips"), [({"samples": 4, "clips": 2}, 2), ({"clips": 2, "samples": 4}, 4)]
)
def test_of_both_names_the_later_one_counts(section: dict[str, int], clips: int) -> None:
    """Files laid over one another keep the order in which their settings came."""
    assert load_config({**VALUES, "validation": section}).validation.clips == clips


@pytest.mark.parametrize("names", [*itertools.product(("samples", "clips"), repeat=3)])
def test_of_three_files_the_last_one_counts_whichever_name_it_uses(names: tuple[str, ...]) -> None:
    values: dict[str, Any] = VALUES
    for number, name in enumerate(names, 1):
        values = merge(values, {"validation": {name: number}})
    assert load_config(values).validation.clips == 3


def test_an_option_in_new_words_changes_a_preset_in_old_ones() -> None:
    old = {**VALUES, "validation": {"samples": 4}}
    assert config_with(old, ["validation.clips=0"]).validation.clips == 0
    assert config_with(old, ["validation.samples=1"]).validation.clips == 1
    assert old["validation"] == {"samples": 4}


def test_settings_of_an_old_experiment() -> None:
    old = {
        "set": {"schedule": {"length": "8 samples"}, "validation": {"samples": 1}},
        "variants": {"a": {"ema": {"per": "2 samples"}}, "b": 3},
        "grid": {"validation.samples": [0, 1], "logging": {"every": ["1 samples"]}},
    }
    assert old_names.upgraded_experiment(old) == {
        "set": {"schedule": {"length": "8 items"}, "validation": {"clips": 1}},
        "variants": {"a": {"ema": {"per": "2 items"}}, "b": 3},
        "grid": {"validation.clips": [0, 1], "logging": {"every": ["1 items"]}},
    }


def test_an_old_experiment_matches_items() -> None:
    assert old_names.upgraded_experiment({"match": "samples"}) == {"match": "items"}
    assert old_names.upgraded_experiment({"base": "samples", "match": 3}) == {
        "base": "samples",
        "match": 3,
    }


def test_counters_of_an_old_checkpoint() -> None:
    old = {"updates": 2, "micro_batches": 3, "samples": 8, "audio_seconds": 16.0}
    assert Counters.of(old) == Counters(2, 3, items=8, audio_seconds=16.0)
