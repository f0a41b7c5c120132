"""Claims about `optimizer.lr_scale` and about what decays: groups by name, rates that arrive, nothing twice."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from engine.config.errors import ConfigError
from engine.config.loading import load_config
from engine.config.lr_scale import GroupScale
from engine.config.overrides import config_with
from engine.config.schema import RunConfig
from engine.config.sections import OptimizerConfig
from engine.events import Noticed
from engine.recipes.weights import ParameterGroup
from engine.training.optimizer import FusedAdamW
from engine.training.parameter_groups import decay_text, group_of, groups_of, without_decay
from engine.training.trainer import Trainer
from models.codec.mel_codec import MelCodec
from models.codec.settings import MelCodecConfig
from models.configs import (
    AudioUNetConfig,
    ConvTasNetConfig,
    HybridConfig,
    HybridDemucsConfig,
    SpecUNetConfig,
)
from models.ctc import build_ctc
from models.registry import build_model
from models.self_supervised.data2vec2 import Data2Vec2
from models.self_supervised.data2vec2_settings import Data2Vec2Config
from models.self_supervised.hubert import build_hubert
from models.self_supervised.settings import HubertConfig
from models.self_supervised.wav2vec2 import Wav2Vec2
from models.self_supervised.wav2vec2_settings import Wav2Vec2Config
from models.speech_configs import (
    ConformerRnntConfig,
    CtcConformerConfig,
    CtcData2Vec2Config,
    CtcEncoderConfig,
    EmformerRnntConfig,
    WaveformRnntConfig,
)
from models.transducer import build_transducer

ONE, NO = torch.ones(()), torch.zeros(())


def separation(config):
    return config, build_model(config, channels=1, sources=1)


def speech(config):
    build: Any = build_transducer if "transducer" in config.recipes else build_ctc
    named = {"num_mels" if build is build_transducer else "num_features": 1}
    if config.reads == "log_mel":
        named = dict.fromkeys(named, 8)
    return config, build(config, num_tokens=5, **named)


def small(kind: Any, **settings: Any) -> Any:
    return kind(layers=1, dim=64, heads=4, ffn=64, **settings)


MODELS = {
    "audio_unet": lambda: separation(AudioUNetConfig(width=4)),
    "spec_unet": lambda: separation(SpecUNetConfig(width=4)),
    "hybrid": lambda: separation(HybridConfig(width=4)),
    "conv_tasnet": lambda: separation(ConvTasNetConfig(features=16, mask_features=8, mask_hidden=8)),
    "hybrid_demucs": lambda: separation(HybridDemucsConfig(features=8)),
    "codec": lambda: (c := MelCodecConfig(channels=(8, 8)), MelCodec(c)),
    "hubert": lambda: (c := small(HubertConfig), build_hubert(c, clusters=4)),
    "wav2vec2": lambda: (c := small(Wav2Vec2Config), Wav2Vec2(c)),
    "data2vec2": lambda: (c := small(Data2Vec2Config, prenet_layers=1), Data2Vec2(c)),
    "conformer_rnnt": lambda: speech(small(ConformerRnntConfig, encoding_dim=16)),
    "emformer_rnnt": lambda: speech(small(EmformerRnntConfig, encoding_dim=16)),
    "waveform_rnnt": lambda: speech(small(WaveformRnntConfig, channel_mask_length=8)),
    "ctc_conformer": lambda: speech(small(CtcConformerConfig)),
    "ctc_encoder": lambda: speech(small(CtcEncoderConfig, channel_mask_length=8)),
    "ctc_data2vec2": lambda: speech(small(CtcData2Vec2Config, channel_mask_length=8, prenet_layers=1)),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_of_a_built_in_model_is_in_a_group_and_no_group_is_empty(name):
    config, model = MODELS[name]()
    found = {group_of(param, config.parameter_groups) for param, _ in model.named_parameters()}
    assert found == set(config.parameter_groups)


def values(**optimizer: Any) -> dict[str, Any]:
    return {
        "data": {"kind": "bandwidth", "train": "/nowhere", "valid": "/nowhere"},
        "optimizer": optimizer,
    }


@pytest.mark.parametrize(
    ("scales", "message"),
    [
        (["encodr=0.1"], "has the groups encoder, middle, decoder, did you mean 'encoder'?"),
        (["encoder=0.1", "encoder=0.2"], "names 'encoder' twice"),
        (["encoder=101"], "0 to 100, like 'encoder=0.1'"),
        (["encoder"], "like 'encoder=0.1'"),
        ([0.1], "like 'encoder=0.1'"),
        (["encoder=-1"], "like 'encoder=0.1'"),
    ],
)
def test_a_wrong_group_or_factor_is_refused_with_what_there_is(scales, message):
    with pytest.raises(ConfigError) as refused:
        load_config(values(lr_scale=scales))
    assert message in str(refused.value)


def test_scales_survive_files_and_the_command_line():
    config = config_with(values(), ["optimizer.lr_scale=encoder=0.1, decoder=2e-1"])
    assert config.optimizer.lr_scale == (GroupScale("encoder", 0.1), GroupScale("decoder", 0.2))
    again = load_config(config.to_dict())
    assert again == config
    assert again.to_dict()["optimizer"]["lr_scale"] == ["encoder=0.1", "decoder=0.2"]
    assert RunConfig.model_validate_json(config.to_json()) == config


class _Grouped:
    """What `groups_of` asks of a recipe that groups its layers."""

    def __init__(self, groups: list[ParameterGroup]) -> None:
        self._groups = groups

    def parameter_groups(self, model: nn.Module) -> list[ParameterGroup]:
        return self._groups


def test_scales_multiply_the_rates_of_the_recipe_and_are_what_adam_moves_by():
    config = load_config(values(lr_scale=["encoder=0.5", "decoder=0"], weight_decay=0.0))
    model = build_model(config.model, channels=1, sources=1)
    names = [name for name, _ in model.named_parameters()]
    own = [ParameterGroup("low", names[:5], 0.1), ParameterGroup("high", names[5:], 1.0)]
    recipe: Any = _Grouped(own)
    groups = groups_of(recipe, model, config=config)
    before = {name: param.detach().clone() for name, param in model.named_parameters()}
    optimizer = FusedAdamW(model, config.optimizer, groups=groups)
    for param in model.parameters():
        param.grad = torch.full_like(param, 0.3)
    optimizer.step(lr=1e-2, divisor=ONE, skipped=NO)
    for place, (name, param) in enumerate(model.named_parameters()):
        scale = {"encoder": 0.5, "middle": 1.0, "decoder": 0.0}[
            group_of(name, config.model.parameter_groups)
        ]
        expected = 1e-2 * scale * (0.1 if place < 5 else 1.0)
        # The first step of Adam is the rate, whatever the gradient.
        moved = (before[name] - param.detach()).flatten()
        torch.testing.assert_close(moved, torch.full_like(moved, expected), rtol=1e-3, atol=1e-9)
    assert {group.name for group in groups} >= {"low.encoder", "high.middle", "high.decoder"}


def test_a_loss_weight_slows_nothing_under_adam_but_a_scale_does():
    """Two heads that share nothing: a hundredth of the loss of one moves it as far as all of it."""

    def moved(weight: float, scale: float) -> float:
        torch.manual_seed(0)
        model = nn.ModuleDict({"text": nn.Linear(4, 4), "mel": nn.Linear(4, 4)})
        groups = [
            ParameterGroup(part, [f"{part}.weight", f"{part}.bias"], lr_ratio=ratio)
            for part, ratio in (("text", scale), ("mel", 1.0))
        ]
        optimizer = FusedAdamW(model, OptimizerConfig(weight_decay=0.0), groups=groups)
        start = model["text"].weight.detach().clone()
        for _ in range(20):
            optimizer.clear_gradients()
            x = torch.randn(8, 4)
            loss = weight * model["text"](x).square().sum() + model["mel"](x).square().sum()
            loss.backward()
            optimizer.step(lr=1e-3, divisor=ONE, skipped=NO)
        return float((model["text"].weight.detach() - start).norm())

    full = moved(1.0, 1.0)
    assert moved(0.01, 1.0) == pytest.approx(full, rel=1e-3)
    assert moved(1.0, 0.01) == pytest.approx(full / 100, rel=0.1)


class _Net(nn.Module):
    """Each kind of parameter once."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Embedding(5, 4)
        self.norm = nn.LayerNorm((2, 4))
        self.linear = nn.Linear(4, 4)
        self.label_embeddings = nn.Parameter(torch.ones(3, 4))


@pytest.mark.parametrize(
    ("vectors", "embeddings", "spared"),
    [
        (True, True, set()),
        (False, True, {"norm.weight", "norm.bias", "linear.bias"}),
        (True, False, {"token.weight", "label_embeddings"}),
        (False, False, {"norm.weight", "norm.bias", "linear.bias", "token.weight", "label_embeddings"}),
    ],
)  # fmt: skip
def test_weight_decay_spares_exactly_what_is_named(vectors, embeddings, spared):
    torch.manual_seed(0)
    model = _Net()
    settings = OptimizerConfig(weight_decay=0.5, decay_vectors=vectors, decay_embeddings=embeddings)
    assert without_decay(model, settings) == spared
    optimizer = FusedAdamW(model, settings)
    with torch.no_grad():
        for param in model.parameters():
            param.fill_(1.0)
    for param in model.parameters():
        param.grad = torch.zeros_like(param)
    optimizer.step(lr=0.1, divisor=ONE, skipped=NO)
    # Without a gradient, decay is all that moves a weight.
    for name, param in model.named_parameters():
        assert bool((param == (1.0 if name in spared else 0.95)).all()), name
    text = decay_text(model, settings)
    assert f"weight decay 0.5 on {6 - len(spared)} tensor" in text
    assert all(name in text for name in sorted(spared)[:2])


def test_a_run_says_its_groups_and_resumes_with_them(
    tmp_path, make_config, line_recipe, new_recorder, stop_after, checkpoint_tensors
):
    config = make_config(optimizer={"lr_scale": ["encoder=0.1"], "decay_embeddings": False})

    def fit(name: str, control: Any) -> Any:
        recorder = new_recorder()
        Trainer(
            config, line_recipe(), folder=tmp_path / name, observers=[recorder], control=control
        ).fit()
        return recorder

    whole = fit("whole", stop_after())
    said = {event.kind: event.message for event in whole.of(Noticed)}
    assert "decoder x 1 (4 tensors" in said["parameter-groups"]
    assert said["weight-decay"].startswith("weight decay 0.01 on")
    fit("parts", stop_after(5))
    fit("parts", stop_after())
    one, other = (
        checkpoint_tensors(tmp_path / part / "checkpoints" / "last-000012")
        for part in ("whole", "parts")
    )
    assert any(name.endswith("optimizer.step.decoder") for name in one)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
