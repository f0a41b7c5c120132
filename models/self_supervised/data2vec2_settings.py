"""The settings of data2vec 2.0, free of torch."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import model_validator

from models.base.settings import ParameterGroups, require_multiples, setting
from models.self_supervised.settings import SelfSupervisedConfig, TransformerSettings


class Data2Vec2EncoderSettings(TransformerSettings):
    """The encoder of data2vec 2.0: what is left of it after pre-training."""

    extractor_norm: Literal["layer_norm"] = setting(
        "layer_norm", "Normalisation of the feature extractor: layer norm after each convolution."
    )
    feature_grad_scale: float = setting(
        1.0, "Factor on the gradient that reaches the feature extractor; 0 freezes it.", ge=0, le=1
    )
    layers: int = setting(
        12, "Number of Transformer layers whose outputs can become targets.", ge=1, le=96
    )
    prenet_layers: int = setting(
        0, "Number of Transformer layers in front of these (8 in LARGE).", ge=0, le=96
    )
    pos_conv_layers: int = setting(5, "Number of convolutions that encode position.", ge=1, le=16)
    pos_conv_width: int = setting(
        95,
        "Sum of the kernel sizes of the convolutions that encode position.",
        unit="frames",
        ge=1,
        le=1_024,
    )
    prenet_dropout: float = setting(
        0.1, "Dropout probability of the frames at the input of the Transformer.", ge=0, lt=1
    )
    dropout: float = setting(0.1, "Dropout probability of the attention output.", ge=0, lt=1)
    ffn_dropout: float = setting(
        0.1, "Dropout probability of the output of the feed-forward blocks.", ge=0, lt=1
    )


class Data2Vec2Config(SelfSupervisedConfig, Data2Vec2EncoderSettings):
    """data2vec 2.0 (Baevski et al., 2023): predicts what its own average makes of the unmasked audio."""

    recipes: ClassVar[frozenset[str]] = frozenset({"data2vec2"})
    parameter_groups: ClassVar[ParameterGroups] = {
        "extractor": ("feature_extractor.",), "encoder": ("",), "decoder": ("decoder.",),
    }  # fmt: skip

    kind: Literal["data2vec2"] = setting("data2vec2", "data2vec 2.0 encoder with a decoder.")
    decoder_layers: int = setting(4, "Number of convolutions of the decoder.", ge=1, le=16)
    decoder_dim: int = setting(
        384, "Width of the decoder, a multiple of decoder_groups.", ge=8, le=4_096
    )
    decoder_kernel: int = setting(
        7, "Kernel size of the decoder's convolutions.", unit="frames", ge=1, le=255
    )
    decoder_groups: int = setting(
        16, "Number of groups of the decoder's convolutions.", ge=1, le=256
    )
    mask_noise: float = setting(
        0.01,
        "Standard deviation of the noise that stands for masked frames at the decoder's input.",
        ge=0,
        le=10,
    )
    decoder_dropout: float = setting(
        0.1, "Dropout probability of the frames at the decoder's input.", ge=0, lt=1
    )

    @model_validator(mode="after")
    def _decoder_shares_channels(self) -> Self:
        require_multiples(self, ("dim", "decoder_groups"), ("decoder_dim", "decoder_groups"))
        return self
