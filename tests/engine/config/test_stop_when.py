"""Settings of `stop_when`: values with and without units, and what does not fit the run."""

from __future__ import annotations

from typing import Any

import pytest

from engine.config.errors import ConfigError
from engine.config.loading import load_config
from engine.config.overrides import config_with
from engine.config.schema import RunConfig
from engine.config.stop_when import stop_metric

AUDIO = {"data": {"kind": "bandwidth", "train": "a", "valid": "b"}}
SPEECH = {
    "data": {"kind": "speech", "train": "a", "valid": "b"},
    "model": {"kind": "conformer_rnnt"},
    "loss": {"kind": "rnnt"},
}


def with_rules(base: dict[str, Any], **rules: Any) -> RunConfig:
    return load_config({**base, "stop_when": rules})


@pytest.mark.parametrize(
    ("base", "written", "stored"),
    [
        (AUDIO, 12.0, 12.0), (AUDIO, 12, 12.0), (AUDIO, "12 dB", 12.0), (AUDIO, "-3.5dB", -3.5),
        (SPEECH, 0.05, 0.05), (SPEECH, "5 %", 0.05), (SPEECH, "5%", 0.05), (SPEECH, "0.05", 0.05),
    ],
)  # fmt: skip
def test_a_target_is_written_with_or_without_its_unit(base, written, stored):
    config = with_rules(base, target=written)
    assert config.stop_when.target.stored == stored
    assert load_config(config.to_dict()) == config
    assert config_with(base, [f"stop_when.target={written}"]) == config


@pytest.mark.parametrize(
    ("base", "rules", "message"),
    [
        (AUDIO, {"target": "5 %"}, "stop_when.target = '5 %': is in %, but SI-SDR is measured in dB"),
        (AUDIO, {"target": float("-inf")}, "stop_when.target: expected a finite number"),
        (AUDIO, {"target": "nan"}, "stop_when.target: expected a finite number"),
        (AUDIO, {"target": True}, "stop_when.target: expected a finite number"),
        (AUDIO, {"target": 300}, "stop_when.target = '300': expected a number from -100 to 100"),
        (SPEECH, {"target": 5}, "stop_when.target = '5': expected a fraction from 0 to 1, or percent"),
        (SPEECH, {"target": "5 dB"}, "is in dB, but WER is measured in %"),
        (SPEECH, {"metric": "val_loss", "min_delta": "1 dB"}, "is in dB, but val_loss has no unit"),
        (AUDIO, {"min_delta": -0.1}, "stop_when.min_delta = '-0.1': expected a number >= 0"),
        (AUDIO, {"patience": "0 items"}, "stop_when.patience: must be above 0"),
        (AUDIO, {"patience": "20"}, "stop_when.patience: expected an amount and a clock"),
        (AUDIO, {"metric": "wer", "patience": "9 epochs"}, "this run will not measure it; expected one of si_sdr,"),
        (AUDIO, {"metric": "si_sdr_em"}, "did you mean 'si_sdr_ema'?"),
        (AUDIO, {"metric": "input_si_sdr"}, "this run will not measure it"),
        (AUDIO, {"metric": "loss"}, "this run will not measure it"),
        (AUDIO, {"metric": "stoi_full"}, "it is measured beside training and comes too late to decide"),
        (AUDIO, {"metric": "si_sdr_full"}, "with validation.full_files = true only"),
        ({**AUDIO, "ema": {"enabled": False}}, {"metric": "si_sdr_ema"}, "need ema.enabled = true"),
        (
            {**AUDIO, "validation": {"full_files": True}},
            {"metric": "si_sdr_full", "target": 3},
            "is measured at the end of the run only; set validation.full_every",
        ),
    ],
)  # fmt: skip
def test_rules_that_do_not_fit_are_refused_in_one_line(base, rules, message):
    with pytest.raises(ConfigError) as caught:
        with_rules(base, **rules)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("base", "name"), [(AUDIO, "si_sdr"), (SPEECH, "wer")])
def test_the_headline_metric_of_the_weights_that_count_is_the_default(base, name):
    plain = load_config({**base, "ema": {"enabled": False}})
    averaged = load_config({**base, "ema": {"enabled": True}})
    names = [stop_metric(config) for config in (plain, averaged)]
    assert names == [name, f"{name}_ema"]
