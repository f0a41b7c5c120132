"""Builds the network from the settings of a model: the only place that lists every separation model.

Transducers are built by `models.transducer`. Every network here maps a mixture (B, C, T) to estimates (B, S, C, T) of the same length, for any batch
and any T >= 1. Letters: B batch, S sources, C channels, T samples.
"""

from __future__ import annotations

from typing import assert_never

from torch import nn

from models.codec.settings import MelCodecConfig
from models.configs import (
    AudioUNetConfig,
    ConvTasNetConfig,
    HybridConfig,
    HybridDemucsConfig,
    ModelConfig,
    SpecUNetConfig,
)
from models.plugins import PluginModel
from models.self_supervised.settings import SelfSupervisedConfig
from models.speech_configs import SpeechHead
from models.voice.settings import VoiceConfig


def build_model(config: ModelConfig, *, channels: int, sources: int) -> nn.Module:
    """Return a freshly initialised network on the CPU; draws from torch's default generator."""
    match config:
        case AudioUNetConfig():
            from models.audio_unet import AudioUNet

            return AudioUNet(config, channels=channels, sources=sources)
        case SpecUNetConfig():
            from models.spec_unet import SpecUNet

            return SpecUNet(config, channels=channels, sources=sources)
        case HybridConfig():
            from models.hybrid import Hybrid

            return Hybrid(config, channels=channels, sources=sources)
        case ConvTasNetConfig():
            from models.conv_tasnet import ConvTasNet

            return ConvTasNet(config, sources=sources)
        case HybridDemucsConfig():
            from models.hybrid_demucs import HybridDemucs

            return HybridDemucs(config, channels=channels, sources=sources)
        case PluginModel():
            return _build_plugin(config, channels=channels, sources=sources)
        case SpeechHead():
            raise ValueError(
                f"model.kind = {config.kind!r} is a speech-recognition model and can't separate audio"
            )
        case SelfSupervisedConfig():
            raise ValueError(
                f"model.kind = {config.kind!r} learns features of audio and can't separate it"
            )
        case MelCodecConfig():
            raise ValueError(f"model.kind = {config.kind!r} codes audio and can't separate it")
        case VoiceConfig():
            raise ValueError(f"model.kind = {config.kind!r} speaks and can't separate audio")
    assert_never(config)


def _build_plugin(config: PluginModel, *, channels: int, sources: int) -> nn.Module:
    network = config.build(channels=channels, sources=sources)
    if not isinstance(network, nn.Module):
        raise ValueError(
            f"model.kind = {config.kind!r}: its package returned {type(network).__name__}, "
            "expected a torch.nn.Module"
        )
    return network


def count_parameters(model: nn.Module) -> int:
    """Return the number of trainable values."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
