"""The settings of self-supervised encoders of waveforms, free of torch.

Defaults are those of the BASE size of wav2vec 2.0 and HuBERT: 95 million parameters, one frame for
every 320 samples, each of which sees 400. What training predicts is not here but in the loss.
"""

from __future__ import annotations

from math import prod
from typing import Annotated, ClassVar, Literal, Protocol, Self, runtime_checkable

from pydantic import Field, model_validator

from models.base.settings import ParameterGroups, Section, require_multiples, setting

_Channels = tuple[Annotated[int, Field(ge=4, le=4_096)], ...]
_Kernels = tuple[Annotated[int, Field(ge=1, le=256)], ...]
_Strides = tuple[Annotated[int, Field(ge=1, le=64)], ...]


class SelfSupervisedConfig(Section):
    """What every network has that learns from audio without labels."""

    recipes: ClassVar[frozenset[str]] = frozenset()
    rates_hz: ClassVar[tuple[int, int]] = (4_000, 48_000)


@runtime_checkable
class FrameGrid(Protocol):
    """Where the frames of an encoder lie in the waveform."""

    @property
    def hop(self) -> int:
        """Samples from one frame to the next."""

    @property
    def receptive_field(self) -> int:
        """Samples that one frame sees: frame k sees those from `hop * k` on."""

    def frames_of(self, samples: int) -> int:
        """Return how many frames a waveform of `samples` gives, 0 where it is too short for one."""


@runtime_checkable
class EncoderSettings(FrameGrid, Protocol):
    """What recipes ask of the settings of any encoder of waveforms."""

    @property
    def layers(self) -> int:
        """Number of layers."""

    @property
    def layer_drop(self) -> float:
        """Probability that a layer is skipped in an update."""


class ConvStackSettings(Section):
    """The convolutions that turn a waveform into frames."""

    conv_channels: _Channels = setting(
        (512, 512, 512, 512, 512, 512, 512),
        "Number of channels of each convolution of the feature extractor.",
        min_length=1,
        max_length=12,
    )
    conv_kernels: _Kernels = setting(
        (10, 3, 3, 3, 3, 2, 2),
        "Kernel size of each convolution of the feature extractor.",
        min_length=1,
        max_length=12,
    )
    conv_strides: _Strides = setting(
        (5, 2, 2, 2, 2, 2, 2),
        "Stride of each convolution of the feature extractor; their product is the hop of a frame.",
        min_length=1,
        max_length=12,
    )
    extractor_norm: Literal["group_norm", "layer_norm"] = setting(
        "group_norm",
        "Normalisation of the feature extractor: group norm after the first convolution (BASE; needs "
        "crops of equal length), or layer norm after each one (LARGE; needs normalised waveforms).",
    )
    conv_bias: bool = setting(
        False, "Add a bias to each convolution of the feature extractor; float16 needs it."
    )
    feature_grad_scale: float = setting(
        0.1,
        "Factor on the gradient that reaches the feature extractor; 0 freezes it.",
        ge=0,
        le=1,
    )

    @property
    def hop(self) -> int:
        """Samples from one frame to the next."""
        return prod(self.conv_strides)

    @property
    def receptive_field(self) -> int:
        """Samples that one frame sees: frame k sees those from `hop * k` on."""
        seen, step = 1, 1
        for kernel, stride in zip(self.conv_kernels, self.conv_strides, strict=True):
            seen += (kernel - 1) * step
            step *= stride
        return seen

    def frames_of(self, samples: int) -> int:
        """Return how many frames a waveform of `samples` gives, 0 where it is too short for one."""
        for kernel, stride in zip(self.conv_kernels, self.conv_strides, strict=True):
            samples = max(0, (samples - kernel) // stride + 1)
        return samples

    @model_validator(mode="after")
    def _convolutions_are_complete(self) -> Self:
        sizes = {
            name: len(getattr(self, name))
            for name in ("conv_channels", "conv_kernels", "conv_strides")
        }
        if len(set(sizes.values())) > 1:
            found = ", ".join(f"{name} has {size}" for name, size in sizes.items())
            raise ValueError(f"each convolution needs channels, kernel and stride: {found} values")
        return self


class TransformerSettings(ConvStackSettings):
    """Convolutions, then a Transformer over their frames, whose positions a convolution encodes."""

    layers: int = setting(12, "Number of Transformer layers.", ge=1, le=96)
    dim: int = setting(
        768, "Width of the Transformer, a multiple of heads and of the groups.", ge=8, le=4_096
    )
    heads: int = setting(12, "Number of attention heads per layer.", ge=1, le=64)
    ffn: int = setting(3072, "Hidden width of the feed-forward blocks.", ge=8, le=16_384)
    pos_conv_groups: int = setting(
        16, "Number of groups of each convolution that encodes position.", ge=1, le=256
    )
    dropout: float = setting(0.1, "Dropout probability in the Transformer.", ge=0, lt=1)
    attention_dropout: float = setting(0.1, "Dropout probability of attention weights.", ge=0, lt=1)
    activation_dropout: float = setting(
        0.0, "Dropout probability inside the feed-forward blocks.", ge=0, lt=1
    )
    layer_drop: float = setting(
        0.05,
        "Probability that a Transformer layer is skipped in an update; drawn once per update.",
        ge=0,
        lt=1,
    )

    @model_validator(mode="after")
    def _channels_are_shared(self) -> Self:
        require_multiples(self, ("dim", "heads"), ("dim", "pos_conv_groups"))
        return self


class WaveformEncoderSettings(TransformerSettings):
    """The encoder of wav2vec 2.0 and HuBERT (Baevski et al., 2020)."""

    layer_norm_first: bool = setting(
        False, "Layer norm before attention and feed-forward (LARGE) instead of after them (BASE)."
    )
    pos_conv_kernel: int = setting(
        128, "Kernel size of the convolution that encodes position.", unit="frames", ge=1, le=1_024
    )
    projection_dropout: float = setting(
        0.1, "Dropout probability of the frames at the input of the Transformer.", ge=0, lt=1
    )


class HubertHead(SelfSupervisedConfig):
    """What HuBERT has behind any encoder: the prediction of clusters."""

    recipes: ClassVar[frozenset[str]] = frozenset({"hubert"})

    final_dim: int = setting(
        256, "Width in which frames and cluster embeddings are compared.", ge=8, le=4_096
    )


# Settings of bases come in the reverse order of the bases: the encoder's first.
class HubertConfig(HubertHead, WaveformEncoderSettings):
    """HuBERT (Hsu et al., 2021): predicts the cluster of every frame, masked ones above all."""

    parameter_groups: ClassVar[ParameterGroups] = {
        "extractor": ("feature_extractor.",), "encoder": ("",),
        "head": ("final_proj.", "label_embeddings"),
    }  # fmt: skip

    kind: Literal["hubert"] = setting("hubert", "HuBERT encoder with a cluster predictor.")
