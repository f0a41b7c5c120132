"""Claims about the registry: each kind has a network, and settings load no torch."""

import subprocess
import sys
from typing import get_args

import pytest
import torch

from models.audio_unet import AudioUNet
from models.configs import (
    AudioUNetConfig,
    ConvTasNetConfig,
    HybridConfig,
    HybridDemucsConfig,
    SeparationModel,
    SpecUNetConfig,
)
from models.conv_tasnet import ConvTasNet
from models.hybrid import Hybrid
from models.hybrid_demucs import HybridDemucs
from models.registry import build_model, count_parameters
from models.spec_unet import SpecUNet
from models.speech_configs import ConformerRnntConfig, EmformerRnntConfig


@pytest.mark.parametrize(
    ("config", "network"),
    [
        (AudioUNetConfig(width=4), AudioUNet),
        (SpecUNetConfig(width=4), SpecUNet),
        (HybridConfig(width=4), Hybrid),
        (ConvTasNetConfig(), ConvTasNet),
        (HybridDemucsConfig(features=8), HybridDemucs),
    ],
)
def test_each_kind_has_its_network(config, network):
    assert isinstance(build_model(config, channels=1, sources=1), network)


def test_no_kind_goes_untested():
    tested = test_each_kind_has_its_network.pytestmark[0].args[1]
    assert {type(config) for config, _ in tested} == set(get_args(SeparationModel))


@pytest.mark.parametrize("config", [ConformerRnntConfig(), EmformerRnntConfig()])
def test_a_transducer_separates_nothing(config):
    with pytest.raises(ValueError, match="is a speech-recognition model and can't separate audio"):
        build_model(config, channels=1, sources=1)


def test_parameters_are_counted_once_and_only_if_trained():
    layer = torch.nn.Linear(3, 2)
    layer.bias.requires_grad_(False)
    assert count_parameters(layer) == 6


def loaded_modules(statement, *names):
    code = f"import sys; {statement}; print(*(n for n in {names!r} if n in sys.modules))"
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def test_settings_load_no_torch(repository, monkeypatch):
    monkeypatch.chdir(repository)
    assert loaded_modules("import models.configs", "torch", "torchaudio") == []


def test_the_registry_loads_torchaudio_only_for_conv_tasnet(repository, monkeypatch):
    monkeypatch.chdir(repository)
    build = "from models.registry import build_model; from models.configs import AudioUNetConfig; "
    build += "build_model(AudioUNetConfig(width=4), channels=1, sources=1)"
    assert loaded_modules(build, "torchaudio") == []


@pytest.mark.parametrize("strides", [(), (0,), (2, 65), (2,) * 9])
def test_impossible_strides_are_refused(strides):
    with pytest.raises(ValueError, match="strides"):
        AudioUNetConfig(strides=strides)
