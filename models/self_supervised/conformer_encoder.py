"""An encoder of waveforms whose layers are torchaudio's Conformer layers instead of a Transformer.

Letters: B batch, L frames, D channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from models.layers.conformer import conformer_layer
from models.layers.padding import valid_frames, zero_padding
from models.self_supervised.settings import WaveformEncoderSettings
from models.self_supervised.waveform_encoder import WaveformEncoder, initialise_position


class ConformerWaveformEncoder(WaveformEncoder):
    """Convolutions over the waveform, a positional convolution, then Conformer layers.

    The positional convolution is kept, since these layers have no position of their own beyond the reach of
    their kernel. Every layer ends with a layer norm, so nothing follows the last one.

    Args:
        settings: the sizes.
        kernel: of the depthwise convolutions, odd.
    """

    def __init__(self, settings: WaveformEncoderSettings, *, kernel: int) -> None:
        super().__init__(settings, layers=_Layers(settings, kernel))

    @property
    def compiled_parts(self) -> Sequence[str]:
        """Names of the parts that are compiled; layers are called part by part, too."""
        return self._parts_of_layers(".ffn1", ".ffn2")

    def layer_outputs(
        self,
        x_BLD: Tensor,
        frame_lengths_B: Tensor | None = None,
        *,
        keep_layers: Sequence[bool] | None = None,
    ) -> Iterator[Tensor]:
        """Yield the input of the first layer (B, L, D), then the output of each layer."""
        padded_BL = None
        if frame_lengths_B is not None:
            # An item too short for a frame attends to its first one: no frame at all would give NaN.
            padded_BL = ~valid_frames(x_BLD, frame_lengths_B.clamp(min=1))
            x_BLD = zero_padding(x_BLD, frame_lengths_B)
        layers: Any = self.encoder.transformer
        h_BLD = layers.dropout(x_BLD + layers.pos_conv_embed(x_BLD))
        yield h_BLD
        h_LBD = h_BLD.transpose(0, 1)
        for number, layer in enumerate(layers.layers):
            if keep_layers is None or keep_layers[number]:
                h_LBD = conformer_layer(layer, h_LBD, padded_BT=padded_BL)
            yield h_LBD.transpose(0, 1)

    def finish(self, h_BLD: Tensor) -> Tensor:
        """Return the output of the last layer as it is."""
        return h_BLD


class _Layers(nn.Module):
    """What stands in the place of torchaudio's Transformer."""

    def __init__(self, settings: WaveformEncoderSettings, kernel: int) -> None:
        super().__init__()
        from torchaudio.models.conformer import ConformerLayer
        from torchaudio.models.wav2vec2 import components

        self.pos_conv_embed = components.ConvolutionalPositionalEmbedding(
            settings.dim, settings.pos_conv_kernel, settings.pos_conv_groups
        )
        initialise_position(self.pos_conv_embed)
        self.dropout = nn.Dropout(settings.dropout)
        self.layers = nn.ModuleList(
            ConformerLayer(
                settings.dim, settings.ffn, settings.heads, kernel, settings.dropout,
                use_group_norm=True,
            )
            for _ in range(settings.layers)
        )  # fmt: skip
        layer: Any
        for layer in self.layers:
            # torchaudio has one dropout for everything.
            layer.self_attn.dropout = settings.attention_dropout
            for ffn in (layer.ffn1, layer.ffn2):
                ffn.sequential[3].p = settings.activation_dropout
