"""The settings of every model, free of torch.

Owns the choices a user has about a network. Properties of the data (channels, sources, sampling
rate) are not here: `models.registry.build_model` receives it from the recipe.
"""

from __future__ import annotations

import re
from math import prod
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from models.base.settings import ParameterGroups, Section, setting
from models.codec.settings import MelCodecConfig
from models.plugins import PluginModel
from models.self_supervised.data2vec2_settings import Data2Vec2Config
from models.self_supervised.plugin_settings import PluginWaveformEncoder
from models.self_supervised.settings import HubertConfig
from models.self_supervised.wav2vec2_settings import Wav2Vec2Config
from models.speech_configs import (
    ConformerRnntConfig,
    CtcConformerConfig,
    CtcData2Vec2Config,
    CtcEncoderConfig,
    EmformerRnntConfig,
    PluginEncoder,
    WaveformRnntConfig,
)
from models.voice.settings import VoiceConfig

Strides = tuple[Annotated[int, Field(ge=1, le=64)], ...]
_BINS = re.compile(r"(first|last):([1-9][0-9]{0,5})")


class UNetSettings(Section):
    """Settings common to all U-Nets."""

    recipes: ClassVar[frozenset[str]] = frozenset({"separation"})
    rates_hz: ClassVar[tuple[int, int]] = (4_000, 192_000)
    parameter_groups: ClassVar[ParameterGroups] = {
        "encoder": ("stem.", "down."), "middle": ("middle.",), "decoder": ("",),
    }  # fmt: skip

    width: int = setting(
        16, "Number of channels of the first level; doubled at each deeper level.", ge=4, le=256
    )
    residual_units: int = setting(
        3, "Residual units before each strided convolution, with dilations 1, 3, 9, ... on waveforms.",
        ge=1, le=6,
    )  # fmt: skip
    norm: Literal["none", "weight", "group"] = setting(
        "none", "Normalisation layers: none, weight norm on every convolution, or group norm."
    )
    prediction: Literal["clean", "difference"] = setting(
        "difference",
        "Output of the network: the clean signal, or a difference that is added to the input.",
    )


class WaveformStrides(Section):
    """The levels of a U-Net on the waveform."""

    strides: Strides = setting(
        (2, 2, 8, 8),
        "Downsampling factor of each level, 1 to 64; audio is padded to a multiple of their product.",
        unit="samples",
        min_length=1,
        max_length=8,
    )

    @property
    def hop(self) -> int:
        """Product of the strides, in samples: the internal length is a multiple of it."""
        return prod(self.strides)


class SpectrogramSettings(Section):
    """The transform of a spectrogram U-Net, and the band it works on."""

    n_fft: int = setting(2400, "Window length of the STFT, even.", unit="samples", ge=16, le=16_384)
    hop_length: int = setting(
        600, "Hop length of the STFT, at most half of n_fft.", unit="samples", ge=1, le=8_192
    )
    bins: str = setting(
        "last:1088",
        "Frequency bins to process: all, first:N or last:N; other bins pass through unchanged.",
    )

    @property
    def band(self) -> tuple[int, int]:
        """First bin that is processed, and the one after the last."""
        total = self.n_fft // 2 + 1
        match = _BINS.fullmatch(self.bins)
        if match is None:
            return 0, total
        count = int(match[2])
        return (0, count) if match[1] == "first" else (total - count, total)

    @field_validator("n_fft")
    @classmethod
    def _window_is_even(cls, value: int) -> int:
        if value % 2:
            raise ValueError("must be even, so that the last bin is at half the sampling rate")
        return value

    @field_validator("bins")
    @classmethod
    def _bins_are_named(cls, value: str) -> str:
        if value != "all" and not _BINS.fullmatch(value):
            raise ValueError("expected all, first:N or last:N, like last:1088")
        return value

    @model_validator(mode="after")
    def _transform_is_complete(self) -> SpectrogramSettings:
        total = self.n_fft // 2 + 1
        start, stop = self.band
        if start < 0 or stop > total:
            raise ValueError(f"bins = {self.bins!r}, but n_fft = {self.n_fft} has {total} bins")
        if 2 * self.hop_length > self.n_fft:
            raise ValueError(
                f"hop_length = {self.hop_length} must be at most half of n_fft = {self.n_fft}"
            )
        return self


class AudioUNetConfig(UNetSettings, WaveformStrides):
    """Waveform U-Net: strided convolutions down, transposed convolutions up, skips between."""

    kind: Literal["audio_unet"] = setting("audio_unet", "U-Net on the waveform.")


class SpecUNetConfig(UNetSettings, SpectrogramSettings):
    """Spectrogram U-Net: the same in two dimensions, on real and imaginary parts of a band."""

    kind: Literal["spec_unet"] = setting(
        "spec_unet", "U-Net on a frequency band of the complex spectrogram."
    )
    strides: Strides = setting(
        (2, 2, 4),
        "Downsampling factor of each level, in bins and frames.",
        unit="bins",
        min_length=1,
        max_length=6,
    )


class HybridConfig(UNetSettings, WaveformStrides, SpectrogramSettings):
    """A spectrogram U-Net, then an audio U-Net on its output; both share these settings."""

    parameter_groups: ClassVar[ParameterGroups] = {
        "spectrogram": ("spec.",), "waveform": ("audio.",),
    }  # fmt: skip

    kind: Literal["hybrid"] = setting("hybrid", "Spectrogram U-Net followed by an audio U-Net.")
    spec_strides: Strides = setting(
        (2, 2, 4),
        "Downsampling factor of each level of the spectrogram U-Net, in bins and frames.",
        unit="bins",
        min_length=1,
        max_length=6,
    )
    intermediate_channels: int = setting(
        1, "Number of waveforms passed between the two networks, per audio channel.", ge=1, le=64
    )


class ConvTasNetConfig(Section):
    """Conv-TasNet as in torchaudio (Luo and Mesgarani, 2019); channels are processed one by one."""

    recipes: ClassVar[frozenset[str]] = frozenset({"separation"})
    rates_hz: ClassVar[tuple[int, int]] = (8_000, 48_000)
    parameter_groups: ClassVar[ParameterGroups] = {
        "encoder": ("network.encoder.",), "masks": ("network.mask_generator.",), "decoder": ("network.decoder.",),
    }  # fmt: skip

    kind: Literal["conv_tasnet"] = setting(
        "conv_tasnet", "Conv-TasNet (torchaudio implementation)."
    )
    kernel_size: int = setting(16, "Length of the encoder filters.", unit="samples", ge=4, le=128)
    features: int = setting(512, "Number of encoder filters.", ge=16, le=2048)
    mask_features: int = setting(128, "Bottleneck channels of the mask network.", ge=8, le=1024)
    mask_hidden: int = setting(
        512, "Hidden channels of a block of the mask network.", ge=8, le=2048
    )
    mask_kernel_size: int = setting(3, "Kernel size of the mask network, odd.", ge=3, le=9)
    mask_layers: int = setting(8, "Number of dilated layers per stack.", ge=1, le=12)
    mask_stacks: int = setting(3, "Number of stacks of the mask network.", ge=1, le=8)
    mask_activation: Literal["sigmoid", "relu"] = setting(
        "sigmoid", "Activation function of the masks."
    )

    @field_validator("mask_kernel_size")
    @classmethod
    def _kernel_is_odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError("must be odd, so that the kernel is centred on its frame")
        return value


class HybridDemucsConfig(Section):
    """Hybrid Demucs as in torchaudio (Defossez, 2021): 84 million parameters at its full width."""

    recipes: ClassVar[frozenset[str]] = frozenset({"separation"})
    rates_hz: ClassVar[tuple[int, int]] = (8_000, 48_000)
    parameter_groups: ClassVar[ParameterGroups] = {
        "spectrogram": ("network.freq_",), "waveform": ("network.time_",),
    }  # fmt: skip

    kind: Literal["hybrid_demucs"] = setting(
        "hybrid_demucs", "Hybrid Demucs (torchaudio implementation)."
    )
    resolution: Literal["low", "medium", "high"] = setting(
        "high", "STFT size: low for 8 kHz, medium for 16 to 32 kHz, high for 44.1 and 48 kHz."
    )
    features: int = setting(
        48, "Number of channels of the first level, a multiple of 8; doubled at each deeper level.",
        ge=8, le=256,
    )  # fmt: skip

    @field_validator("features")
    @classmethod
    def _features_form_groups(cls, value: int) -> int:
        if value % 8:
            raise ValueError(
                "must be a multiple of 8, so that the group norm has groups of equal size"
            )
        return value


SeparationModel = (
    AudioUNetConfig | SpecUNetConfig | HybridConfig | ConvTasNetConfig | HybridDemucsConfig
)
BuiltInModel = (
    SeparationModel
    | ConformerRnntConfig
    | EmformerRnntConfig
    | WaveformRnntConfig
    | CtcConformerConfig
    | CtcEncoderConfig
    | CtcData2Vec2Config
    | HubertConfig
    | Data2Vec2Config
    | Wav2Vec2Config
    | MelCodecConfig
    | VoiceConfig
)
ModelConfig = BuiltInModel | PluginModel | PluginEncoder | PluginWaveformEncoder
