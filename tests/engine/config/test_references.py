"""Settings that refer to runs: how they are written, collected and shown."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from engine.config.errors import ConfigError
from engine.config.fields import list_settings
from engine.config.loading import load_config
from engine.config.overrides import config_with
from engine.config.references import (
    Reference,
    _walk,
    mistake,
    references_of,
    why_weights_do_not_fit,
    with_absolute_folders,
)
from models.base.settings import Section, run_reference, setting

VALUES = {"data": {"kind": "bandwidth", "train": "a", "valid": "b"}}


def test_a_reference_is_a_run_with_a_checkpoint_or_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = {
        text: (reference.run, reference.which, reference.folder)
        for text in ("base-1", "7@last", "base-1@si_sdr_ema", "./base-1", "runs/3", "~/x")
        for reference in [Reference("init_from", text, only_at_start=True)]
    }
    assert found["base-1"] == ("base-1", "best", None)
    assert found["7@last"] == ("7", "last", None)
    assert found["base-1@si_sdr_ema"] == ("base-1", "si_sdr_ema", None)
    assert found["./base-1"][2] == tmp_path / "base-1"
    assert found["runs/3"][2] == tmp_path / "runs" / "3"
    assert found["~/x"][2] == Path.home() / "x"
    for wrong in ("@last", "base@", "a@b@c"):
        assert "a run's name or id, or a checkpoint folder" in mistake(
            Reference("init_from", wrong, only_at_start=True)
        )


def test_references_are_collected_wherever_they_are_declared():
    class Codec(Section):
        kind: Literal["codec"] = setting("codec", "A kind.")
        run: str = run_reference(..., "The codec.")

    class Deep(Section):
        codec: Codec = setting(..., "A codec.")
        teacher: str | None = run_reference(None, "A teacher.")
        base: str | None = run_reference(None, "A base.", only_at_start=True)

    deep = Deep.model_validate({"codec": {"run": "codec-1"}, "base": "7@last"})
    assert list(_walk(deep, "loss.")) == [
        Reference("loss.codec.run", "codec-1", only_at_start=False),
        Reference("loss.base", "7@last", only_at_start=True),
    ]


def test_init_from_is_text_even_where_it_is_an_id(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    config = config_with(VALUES, ["init_from=7"])
    assert config.init_from == "7"
    assert config_with(config.to_dict(), ["init_from=none"]).init_from is None
    assert references_of(load_config(VALUES)) == []
    info = next(item for item in list_settings() if item.key == "init_from")
    assert info.refers_to_run
    assert info.bounds == "a run's name or id, or a checkpoint folder"
    assert info.type_name == "text"
    folder = config_with(VALUES, ["init_from=./trained"])
    assert with_absolute_folders(folder).init_from == str(tmp_path / "trained")
    assert with_absolute_folders(config) is config
    with pytest.raises(
        ConfigError,
        match=r"init_from: expected at least 1 character, or 'none' for no value, found ''",
    ):
        load_config({**VALUES, "init_from": ""})


def test_weights_of_another_kind_of_model_or_recipe_are_known_not_to_fit():
    config = load_config(VALUES)
    same = config.to_dict()
    assert why_weights_do_not_fit(config, same) == ""
    assert why_weights_do_not_fit(config, {}) == ""
    other = {**VALUES, "model": {"kind": "conv_tasnet"}}
    assert why_weights_do_not_fit(config, other) == (
        "a model of kind 'conv_tasnet', but this run has model.kind = 'audio_unet'"
    )
    lenient = load_config({**VALUES, "init_strict": False})
    assert why_weights_do_not_fit(lenient, other) == ""


def test_sizes_of_a_voice_that_do_not_fit_are_named_before_anything_is_computed():
    values = {
        "data": {"kind": "voice", "train": "t", "valid": "v", "rate_hz": 8000},
        "loss": {"kind": "voice"}, "init_from": "base",
    }  # fmt: skip
    config = load_config({**values, "model": {"kind": "voice_gpt", "layers": 2, "max_text": 99}})
    trained = load_config({**values, "model": {"kind": "voice_gpt", "layers": 3, "max_text": 64}})
    assert why_weights_do_not_fit(config, config.to_dict()) == ""
    assert why_weights_do_not_fit(config, trained.to_dict()) == (
        "a model with model.layers = 3, model.max_text = 64, but this run has 2, 99: set these to the sizes of "
        "the weights"
    )
    lenient = config.model_copy(update={"init_strict": False})
    assert why_weights_do_not_fit(lenient, trained.to_dict()) == ""
    odd = {**trained.to_dict(), "model": {"kind": "voice_gpt", "layers": "many"}}
    assert why_weights_do_not_fit(config, odd) == ""


def test_another_kind_of_encoder_is_refused_with_the_kind_that_takes_it():
    data = {"kind": "unlabelled", "train": "a", "valid": "b", "normalize_waveform": True}
    trained = {
        "data": {**data, "fit": "pad"}, "model": {"kind": "data2vec2"}, "loss": {"kind": "data2vec2"},
    }  # fmt: skip
    speech = {"kind": "speech", "train": "a", "valid": "b", "normalize_waveform": True}
    tuned = {"data": speech, "model": {"kind": "ctc_data2vec2"}, "loss": {"kind": "ctc"}}
    assert why_weights_do_not_fit(load_config(tuned), trained) == ""
    other = load_config({**tuned, "model": {"kind": "ctc_encoder"}})
    assert why_weights_do_not_fit(other, trained) == (
        "another encoder (to start from it, set model.kind = 'ctc_data2vec2' and its settings)"
    )


def test_encoders_with_other_settings_are_refused_with_what_to_set():
    size = {"layers": 2, "dim": 64, "heads": 4, "ffn": 128, "conv_bias": True}
    norm = {"extractor_norm": "layer_norm", "layer_norm_first": True}
    tuned = {
        "data": {"kind": "speech", "train": "a", "valid": "b", "normalize_waveform": True},
        "model": {"kind": "ctc_encoder", **size, **norm, "channel_mask_length": 8},
        "loss": {"kind": "ctc"},
    }
    trained = {**tuned, "model": {**tuned["model"], "dropout": 0.3}}
    assert why_weights_do_not_fit(load_config(tuned), trained) == ""
    other = {**tuned, "model": {**tuned["model"], "heads": 2, "conv_bias": False}}
    other["data"] = {**tuned["data"], "rate_hz": 8_000}
    assert why_weights_do_not_fit(load_config(other), trained) == (
        "an encoder with other settings (to start from it, set model.conv_bias = true, model.heads = 4, "
        "data.rate_hz = 16000)"
    )
    lenient = load_config({**other, "init_strict": False})
    assert why_weights_do_not_fit(lenient, trained) == ""


def test_the_home_of_nobody_is_a_folder_that_does_not_exist():
    assert str(Reference("init_from", "~nobody-here/x", only_at_start=True).folder).endswith(
        "/~nobody-here/x"
    )
