"""Every kind of mistake in a config is named with its key, and all of them at once."""

from __future__ import annotations

import json
from typing import Any

import pytest

from engine.config.errors import ConfigError
from engine.config.loading import load_config
from engine.config.overrides import apply_overrides, config_with
from engine.config.schema import RunConfig

BASE: dict[str, Any] = {"data": {"kind": "bandwidth", "train": "a", "valid": "b"}}


def problems_of(*assignments: str, base: dict[str, Any] | None = None) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        load_config(apply_overrides(BASE if base is None else base, assignments))
    return {problem.key: problem.message for problem in caught.value.problems}


def test_all_problems_are_reported_at_once() -> None:
    found = problems_of(
        "optimizer.lrr=3e-3", "batch.items=0", "ema.decay=true", "seed=1.5", "schedule.length=100"
    )
    assert set(found) == {"optimizer.lrr", "batch.items", "ema.decay", "seed", "schedule.length"}


@pytest.mark.parametrize(
    ("assignment", "key", "words"),
    [
        ("optimizer.lrr=3e-3", "optimizer.lrr", "did you mean 'lr'"),
        ("modle.width=8", "modle", "did you mean 'model'"),
        ("lr=3e-3", "lr", "did you mean 'optimizer.lr'"),
        ("batch.items=0", "batch.items", "expected a whole number >= 1, <= 65536, found 0"),
        ("batch.items=true", "batch.items", "expected a whole number >= 1, <= 65536, found True"),
        ("ema.enabled=1", "ema.enabled", "expected true or false, found 1"),
        ("optimizer.lr=fast", "optimizer.lr", "expected a number > 0, <= 10, found 'fast'"),
        ("optimizer.lr=nan", "optimizer.lr", "expected a finite number > 0"),
        ("loss.windows=[1]", "loss.windows.0", "expected a number >= 4, found 1"),
        ("loss.windows=[]", "loss.windows", "expected at least 1 value, found []"),
        ("optimizer=3", "optimizer", "a section of settings, like optimizer.name = value, found 3"),
        (
            'checkpoint.best=["si_sdrr"]',
            "checkpoint.best.0",
            "'si_sdrr' is not one of si_sdr, si_sdr_ema, ",
        ),
        ("model.kind=audio_unt", "model.kind", "did you mean 'audio_unet'"),
        ("precision.dtype=fp64", "precision.dtype", "'auto', 'fp32', 'bf16' or 'fp16'"),
        ("schedule.length=10 weeks", "schedule.length", "like '1000 updates'"),
        ("schedule.length=10", "schedule.length", "like '1000 updates', found 10"),
        ("schedule.length=0 updates", "schedule.length", "must be above 0"),
        ("validation.every=0 items", "validation.every", "must be above 0"),
        ("model.strides=2 4", "model.strides", "a list, like [2, 4, 8]"),
        ("data.rate_hz=16000", "data", "input_rates_hz contains"),
        ("validation.full_every=9 updates", "", "validation.full_files = false: no whole files"),
    ],
)
def test_a_mistake_is_named_with_its_key(assignment: str, key: str, words: str) -> None:
    found = problems_of(assignment)
    assert words in found[key]


@pytest.mark.parametrize("name", ["3", "nan", "2026-01-31", "true", '"3"'])
def test_a_folder_may_be_named_like_a_number(name: str) -> None:
    config = load_config(apply_overrides(BASE, [f"data.valid={name}"]))
    assert str(config.data.valid) == name.strip('"')


def test_a_number_in_a_preset_is_no_folder() -> None:
    with pytest.raises(ConfigError, match=r"data\.valid: expected text, found 3"):
        load_config({"data": {**BASE["data"], "valid": 3}})


def test_false_is_false() -> None:
    config = load_config(apply_overrides(BASE, ["ema.enabled=false", "precision.tf32=true"]))
    assert not config.ema.enabled
    assert config.precision.tf32


def test_another_kind_leaves_behind_what_only_the_kind_below_knows() -> None:
    model = {"kind": "audio_unet", "strides": [2, 4], "width": 24, "prediction": "clean"}
    values = {**BASE, "model": model}
    hybrid = apply_overrides(values, ["model.bins=first:8", "model.kind=hybrid"])["model"]
    assert hybrid == {**model, "kind": "hybrid", "bins": "first:8"}
    # What is given beside the kind stays, and is refused.
    peer = apply_overrides(values, ["model.width=8", "model.features=32", "model.kind=conv_tasnet"])
    assert peer["model"] == {"kind": "conv_tasnet", "features": 32, "width": 8}
    assert apply_overrides(values, ["model.kind=audio_unet"]) == values
    assert apply_overrides(values, ["model.kind=nothing"])["model"] == {**model, "kind": "nothing"}
    assert values["model"] is model
    assert model["width"] == 24


def test_no_warm_up_can_be_asked_for() -> None:
    config = load_config(apply_overrides(BASE, ["schedule.warmup=0 updates"]))
    assert config.schedule.warmup is not None
    assert config.schedule.warmup.amount == 0


def test_a_required_setting_is_named() -> None:
    assert set(problems_of(base={"data": {"kind": "denoise"}})) == {
        "data.train", "data.valid", "data.noise",
    }  # fmt: skip


def test_a_rate_the_model_cannot_take_is_refused() -> None:
    found = problems_of("model.kind=conv_tasnet", "data.rate_hz=96000")
    assert found == {
        "": "data.rate_hz = 96000, but the model 'conv_tasnet' supports 8000 to 48000 Hz"
    }


def test_stored_config_reads_back_equal_with_the_same_fingerprint() -> None:
    config = load_config(apply_overrides(BASE, ["schedule.warmup=100 items", "model.width=8"]))
    again = load_config(json.loads(config.to_json()))
    assert again == config
    assert again.fingerprint == config.fingerprint
    assert isinstance(again, RunConfig)


def test_fingerprint_changes_with_any_setting() -> None:
    assert (
        load_config(BASE).fingerprint != load_config(apply_overrides(BASE, ["seed=1"])).fingerprint
    )


def test_an_optional_setting_can_be_cleared() -> None:
    base = {**BASE, "schedule": {"warmup": "100 updates"}, "ema": {"restart_at": "9 updates"}}
    config = load_config(apply_overrides(base, ["schedule.warmup=none", "ema.restart_at = none"]))
    assert (config.schedule.warmup, config.ema.restart_at) == (None, None)
    assert str(load_config(apply_overrides(BASE, ["data.valid=none"])).data.valid) == "none"
    assert "expected a whole number" in problems_of("batch.items=none")["batch.items"]


def test_an_assignment_that_is_none_hides_nothing_else() -> None:
    with pytest.raises(ConfigError) as caught:
        config_with(BASE, ["foo", "optimizer.lrr=1", "batch.items=0"])
    assert [problem.key for problem in caught.value.problems] == [
        "",
        "batch.items",
        "optimizer.lrr",
    ]
    assert config_with(BASE, ["seed=4"]).seed == 4


def test_a_list_of_wrong_values_is_not_called_short() -> None:
    assert set(problems_of("loss.windows=[1, true]")) == {"loss.windows.0", "loss.windows.1"}


def test_override_without_a_value_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"expected section\.key=value"):
        apply_overrides(BASE, ["optimizer.lr"])
    with pytest.raises(ConfigError, match="its parent is a plain value"):
        apply_overrides({"seed": 1}, ["seed.x=1"])


@pytest.mark.parametrize("text", ["1e400 epochs", "1e300 items", "1000000000001 updates"])
def test_a_span_that_no_counter_reaches_is_refused(text: str) -> None:
    values = {"data": {"kind": "bandwidth", "train": "a", "valid": "b"}}
    for key in ("length", "warmup"):
        with pytest.raises(
            ConfigError, match=rf"^schedule.{key}: expected at most 1e\+12 \w+, found"
        ):
            load_config({**values, "schedule": {key: text}})
    assert load_config({**values, "schedule": {"length": "1e12 epochs"}}).schedule.length
