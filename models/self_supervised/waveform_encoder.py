"""The encoder of wav2vec 2.0 and HuBERT: convolutions over the waveform, a Transformer over frames.

Convolutions and layers are torchaudio's, and so are the names of the weights. Around them, this adds
what torchaudio lacks: with layer norm, padding changes no number, attention takes a boolean mask;
which layers an update skips is an argument instead of a draw; the positional convolution starts with
the published deviation (torchaudio draws it into a temporary). Letters: B batch, T samples, L frames,
C channels of the convolutions, D channels of the Transformer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import sqrt
from typing import Any

import torch
from torch import Tensor, nn

from models.layers.padding import valid_frames, zero_padding
from models.self_supervised.frame_encoder import FrameEncoder
from models.self_supervised.settings import ConvStackSettings, WaveformEncoderSettings

_LINEAR_STD = 0.02


class WaveformEncoder(FrameEncoder):
    """Maps waveforms to frames, one every `settings.hop` samples, step by step or as a whole.

    A subclass with other layers (a Conformer) overrides `layer_outputs` and `finish`.

    Args:
        settings: the sizes.
        layers: what takes the place of the Transformer; must be known to `layer_outputs`.
    """

    encoder: Any
    settings: WaveformEncoderSettings

    def __init__(
        self, settings: WaveformEncoderSettings, *, layers: nn.Module | None = None
    ) -> None:
        super().__init__(settings)
        from torchaudio.models.wav2vec2 import components

        self.feature_extractor = new_feature_extractor(settings)
        if layers is None:
            self.encoder = _transformer_encoder(settings)
        else:
            projection = components.FeatureProjection(
                settings.conv_channels[-1], settings.dim, settings.projection_dropout
            )
            self.encoder = components.Encoder(projection, layers)

    @property
    def compiled_parts(self) -> Sequence[str]:
        """Names of the parts that are compiled; the network as a whole is called step by step."""
        return self._parts_of_layers("")

    def _parts_of_layers(self, *ends: str) -> Sequence[str]:
        """Return the parts in front of the layers, and of each layer those named; "" for the layer itself."""
        front = ("feature_extractor", "encoder.transformer.pos_conv_embed")
        layers = [f"encoder.transformer.layers.{number}" for number in range(self.num_layers)]
        return [*front, *(f"{layer}{end}" for layer in layers for end in ends)]

    def local_features(
        self, wave_BT: Tensor, lengths_B: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the output of the convolutions (B, L, C) and the number of frames (B,).

        Args:
            wave_BT: waveforms, padded with anything.
            lengths_B: samples of each; None where all are as long as the batch.

        Raises:
            ValueError: for lengths where group norm would mix padding into every frame.
        """
        if lengths_B is not None and self.settings.extractor_norm == "group_norm":
            raise ValueError(
                "extractor_norm = 'group_norm' normalises over time, so padding would change every "
                "frame; pass waveforms of equal length, without lengths"
            )
        feat_BLC, frame_lengths_B = self.feature_extractor(wave_BT, lengths_B)
        return scale_gradient(feat_BLC, self.settings.feature_grad_scale), frame_lengths_B

    def normalised(self, feat_BLC: Tensor) -> Tensor:
        """Return local features after the layer norm that stands before the projection."""
        norm_BLC: Tensor = self.encoder.feature_projection.layer_norm(feat_BLC)
        return norm_BLC

    def project(self, norm_BLC: Tensor) -> Tensor:
        """Return normalised local features in the width of the Transformer (B, L, D)."""
        projection = self.encoder.feature_projection
        x_BLD: Tensor = projection.dropout(projection.projection(norm_BLC))
        return x_BLD

    def layer_outputs(
        self,
        x_BLD: Tensor,
        frame_lengths_B: Tensor | None = None,
        *,
        keep_layers: Sequence[bool] | None = None,
    ) -> Iterator[Tensor]:
        """Yield the input of the first layer (B, L, D), then the output of each layer."""
        attended_B1LL = None
        if frame_lengths_B is not None:
            # An item too short for a frame attends to its first one: no frame at all would give NaN.
            valid_BL = valid_frames(x_BLD, frame_lengths_B.clamp(min=1))
            attended_B1LL = valid_BL[:, None, None].expand(-1, 1, x_BLD.shape[1], -1)
            x_BLD = zero_padding(x_BLD, frame_lengths_B)
        transformer = self.encoder.transformer
        h_BLD = transformer._preprocess(x_BLD)
        yield h_BLD
        for number, layer in enumerate(transformer.layers):
            if keep_layers is None or keep_layers[number]:
                h_BLD, _ = layer(h_BLD, attended_B1LL)
            yield h_BLD

    def finish(self, h_BLD: Tensor) -> Tensor:
        """Return the output of the last layer after the layer norm that some sizes have there."""
        if self.settings.layer_norm_first:
            h_BLD = self.encoder.transformer.layer_norm(h_BLD)
        return h_BLD


def new_feature_extractor(settings: ConvStackSettings) -> Any:
    """Return torchaudio's convolutions over a waveform, initialised as published."""
    from torchaudio.models.wav2vec2 import components

    shapes = zip(settings.conv_channels, settings.conv_kernels, settings.conv_strides, strict=True)
    extractor: Any = components._get_feature_extractor(
        settings.extractor_norm, list(shapes), settings.conv_bias
    )
    for block in extractor.conv_layers:
        nn.init.kaiming_normal_(block.conv.weight)
    return extractor


def scale_gradient(x: Tensor, scale: float) -> Tensor:
    """Return `x` unchanged; its gradient is multiplied by `scale`, and not computed where that is 0."""
    if scale == 0:
        return x.detach()
    return x if scale == 1 else _ScaledGradient.apply(x, scale)  # type: ignore[no-untyped-call]


class _ScaledGradient(torch.autograd.Function):
    """Identity forwards, a factor backwards."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        x, ctx.scale = inputs
        return x.view_as(x)  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0] * ctx.scale, None


def _transformer_encoder(settings: WaveformEncoderSettings) -> Any:
    """Return torchaudio's projection and Transformer, initialised as published."""
    from torchaudio.models.wav2vec2 import components

    encoder: Any = components._get_encoder(
        in_features=settings.conv_channels[-1],
        embed_dim=settings.dim,
        dropout_input=settings.projection_dropout,
        pos_conv_kernel=settings.pos_conv_kernel,
        pos_conv_groups=settings.pos_conv_groups,
        num_layers=settings.layers,
        num_heads=settings.heads,
        attention_dropout=settings.attention_dropout,
        ff_interm_features=settings.ffn,
        ff_interm_dropout=settings.activation_dropout,
        dropout=settings.dropout,
        layer_norm_first=settings.layer_norm_first,
        # Which layers are skipped is `keep_layers`, from the recipe.
        layer_drop=0.0,
    )
    for layer in encoder.transformer.layers:
        for module in layer.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=_LINEAR_STD)
                nn.init.zeros_(module.bias)
    initialise_position(encoder.transformer.pos_conv_embed)
    return encoder


def initialise_position(embedding: Any) -> None:
    """Initialise torchaudio's positional convolution as published: deviation 2 / sqrt(kernel * dim)."""
    conv = embedding.conv
    with torch.no_grad():
        # The weight is a product of norm and direction, so it is assigned, not filled.
        std = 2 / sqrt(embedding.kernel_size * embedding.embed_dim)
        conv.weight = torch.randn_like(conv.weight) * std
        conv.bias.zero_()
