"""Sections that come in kinds: what applies where none is named, and what suits what."""

from __future__ import annotations

from typing import Any

import pytest

from engine.config.errors import ConfigError
from engine.config.fields import kind_choices, list_settings
from engine.config.loading import load_config
from engine.config.overrides import apply_overrides, config_with
from presets.merging import merge

DENOISE: dict[str, Any] = {"data": {"kind": "denoise", "train": "a", "valid": "b", "noise": "c"}}
SPEECH: dict[str, Any] = {
    "data": {"kind": "speech", "train": "a", "valid": "b"},
    "model": {"kind": "conformer_rnnt"},
}


def problems(values: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(values)
    return str(caught.value)


def test_a_loss_that_is_left_out_is_that_of_the_data() -> None:
    assert load_config(DENOISE).loss.kind == "spectral"
    assert load_config(DENOISE).recipe == "separation"
    assert load_config(SPEECH).loss.kind == "rnnt"
    assert load_config(SPEECH).recipe == "transducer"
    summed = load_config({**DENOISE, "loss": {"reduction": "sum"}})
    assert (summed.loss.kind, summed.loss.adds_sources) == ("spectral", True)


def test_settings_of_other_kinds_are_refused_with_the_kind_that_has_them() -> None:
    text = problems({**DENOISE, "loss": {"kind": "si_sdr", "windows": [512]}})
    assert text == "loss.windows: unknown setting; windows belongs to loss.kind = 'spectral'"
    text = problems({**SPEECH, "loss": {"reduction": "sum"}})
    assert text == "loss.reduction: unknown setting; reduction belongs to loss.kind = 'spectral'"
    text = problems({**DENOISE, "loss": {"kind": "spectral", "window": [512]}})
    assert text == "loss.window: unknown setting, did you mean 'windows'?"
    text = problems({"data": {**DENOISE["data"], "remix": 1.0}})
    assert text == "data.remix: unknown setting; remix belongs to data.kind = 'stems'"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (
            {**DENOISE, "loss": {"kind": "rnnt"}},
            "loss.kind = 'rnnt' trains transducer, but data.kind = 'denoise' is for separation; set "
            "loss.kind to spectral or si_sdr or l1, or leave it out for spectral",
        ),
        (
            {**DENOISE, "model": {"kind": "conformer_rnnt"}},
            "model.kind = 'conformer_rnnt' is for transducer, but data.kind = 'denoise' with "
            "loss.kind = 'spectral' trains separation; set model.kind to audio_unet or spec_unet or "
            "hybrid or conv_tasnet or hybrid_demucs",
        ),
        (
            {**SPEECH, "model": {}},
            "model.kind = 'audio_unet' is for separation, but data.kind = 'speech' with loss.kind = "
            "'rnnt' trains transducer; set model.kind to conformer_rnnt or emformer_rnnt",
        ),
        (
            {**DENOISE, "loss": {"kind": "si_sd"}},
            f"unknown kind 'si_sd'; expected {', '.join(kind_choices()['loss'])}, did you mean 'si_sdr'? If a "
            "package provides this kind, install that package and try again",
        ),
    ],
)
def test_what_does_not_fit_is_named_with_what_does(values: dict[str, Any], words: str) -> None:
    assert words in problems(values)


def test_another_kind_keeps_what_both_kinds_have() -> None:
    values = {**DENOISE, "loss": {"kind": "spectral", "windows": [512], "reduction": "sum"}}
    assert apply_overrides(values, ["loss.kind=si_sdr"])["loss"] == {"kind": "si_sdr"}
    assert config_with(values, ["loss.kind=l1"]).loss.kind == "l1"
    same = apply_overrides(values, ["loss.kind=spectral", "loss.reduction=mean"])["loss"]
    assert same == {"kind": "spectral", "windows": [512], "reduction": "mean"}
    assert merge(values, {"loss": {"kind": "si_sdr"}})["loss"] == {"kind": "si_sdr"}
    assert merge(values, {"loss": {"reduction": "mean"}})["loss"]["windows"] == [512]


def test_every_kind_of_loss_is_listed_with_its_own_settings() -> None:
    assert kind_choices()["loss"][:4] == ("spectral", "si_sdr", "l1", "rnnt")
    assert set(kind_choices()) == {"data", "model", "loss"}

    def keys(kind: str) -> list[str]:
        return [i.key for i in list_settings({"loss": kind}) if i.key.startswith("loss.")]

    assert keys("spectral") == ["loss.kind", "loss.windows", "loss.reduction"]
    assert keys("si_sdr") == keys("l1") == keys("rnnt") == ["loss.kind"]
    required = {item.key: item.required for item in list_settings() if item.key.endswith(".kind")}
    assert required["data.kind"]
    assert not required["model.kind"]
    assert not required["loss.kind"]
