"""The network. B: batch, T: samples, L: frames, C: mel bands, D: width of the layers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torchaudio.models.conformer import ConformerLayer
from torchaudio.transforms import MelSpectrogram

from mel_conformer.settings import HOP, WINDOW, MelConformer
from models.layers.conformer import conformer_layer
from models.layers.padding import valid_frames, zero_padding
from models.self_supervised.frame_encoder import FrameEncoder

RATE_HZ = 16_000


class Network(FrameEncoder):
    """Log-mel frames, each normalised by itself, then Conformer layers."""

    def __init__(self, settings: MelConformer) -> None:
        super().__init__(settings)
        # Windows are not centred, so frame k begins at sample `HOP * k`, as labels do.
        self.mel = MelSpectrogram(
            RATE_HZ, WINDOW, hop_length=HOP, n_mels=settings.num_mels, center=False
        )
        self.norm = nn.LayerNorm(settings.num_mels)
        self.projection = nn.Linear(settings.num_mels, settings.dim)
        self.dropout = nn.Dropout(settings.dropout)
        self.layers = nn.ModuleList(
            ConformerLayer(
                settings.dim,
                settings.ffn,
                settings.heads,
                settings.kernel,
                settings.dropout,
                use_group_norm=True,
            )
            for _ in range(settings.layers)
        )

    def local_features(
        self, wave_BT: Tensor, lengths_B: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Return log-mel frames (B, L, C), and how many each item has (B,)."""
        with torch.autocast(wave_BT.device.type, enabled=False):
            power_BCL = self.mel(wave_BT)
        feat_BLC = (power_BCL + 1e-6).log().transpose(1, 2)
        if lengths_B is None:
            return feat_BLC, None
        return feat_BLC, ((lengths_B - WINDOW) // HOP + 1).clamp(min=0)

    def normalised(self, feat_BLC: Tensor) -> Tensor:
        """Return frames after a layer norm over their bands."""
        return self.norm(feat_BLC)

    def project(self, norm_BLC: Tensor) -> Tensor:
        """Return (B, L, D); the recipe then replaces the masked frames."""
        return self.dropout(self.projection(norm_BLC))

    def layer_outputs(
        self,
        x_BLD: Tensor,
        frame_lengths_B: Tensor | None = None,
        *,
        keep_layers: Sequence[bool] | None = None,
    ) -> Iterator[Tensor]:
        """Yield the input of the first layer, then the output of each layer."""
        padded_BL = None
        if frame_lengths_B is not None:
            # An item without a frame attends to its first one: attention to none would give NaN.
            padded_BL = ~valid_frames(x_BLD, frame_lengths_B.clamp(min=1))
            x_BLD = zero_padding(x_BLD, frame_lengths_B)
        yield x_BLD
        h_LBD = x_BLD.transpose(0, 1)
        for number, layer in enumerate(self.layers):
            if keep_layers is None or keep_layers[number]:
                h_LBD = conformer_layer(layer, h_LBD, padded_BT=padded_BL)
            yield h_LBD.transpose(0, 1)
