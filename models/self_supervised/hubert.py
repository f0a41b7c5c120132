"""HuBERT (Hsu et al., 2021): an encoder of waveforms that predicts the cluster of each frame.

Letters: B batch, T samples, L frames, N frames of several items, C channels of the convolutions,
D channels of the Transformer, K clusters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.self_supervised.settings import HubertConfig
from models.self_supervised.waveform_encoder import WaveformEncoder

# Cosines are divided by it, so logits lie between -10 and 10.
TEMPERATURE = 0.1
_SMALLEST_NORM = 1e-8


@dataclass(frozen=True, slots=True)
class HubertFrames:
    """What the network makes of a batch.

    Attributes:
        context: (B, L, D) output of the Transformer.
        local: (B, L, C) output of the convolutions, whose mean square is penalised.
        lengths: (B,) valid frames of each item; None where all are.
    """

    context: Tensor
    local: Tensor
    lengths: Tensor | None


class Hubert(WaveformEncoder):
    """The encoder, the embedding of masked frames, and the prediction of clusters.

    Args:
        config: the sizes.
        clusters: K.
    """

    def __init__(self, config: HubertConfig, *, clusters: int) -> None:
        super().__init__(config)
        self.mask_embedding = nn.Parameter(torch.rand(config.dim))
        self.final_proj = nn.Linear(config.dim, config.final_dim)
        # The parts whose forward pass is called; the network as a whole is called step by step.
        layers = [f"encoder.transformer.layers.{number}" for number in range(config.layers)]
        self.compiled_parts = ("feature_extractor", "encoder.transformer.pos_conv_embed", *layers)
        # Uniform in (0, 1) as in fairseq and torchaudio: all embeddings start out close to each other.
        self.label_embeddings = nn.Parameter(torch.rand(clusters, config.final_dim))

    def frames(
        self,
        wave_BT: Tensor,
        lengths_B: Tensor | None = None,
        *,
        mask_BL: Tensor | None = None,
        keep_layers: Sequence[bool] | None = None,
    ) -> HubertFrames:
        """Run the encoder with masked frames replaced.

        Args:
            wave_BT: waveforms.
            lengths_B: samples of each; None where all are as long as the batch.
            mask_BL: bool, the frames to replace by the mask embedding; None: none.
            keep_layers: as in `WaveformEncoder.context`.
        """
        local_BLC, frame_lengths_B = self.local_features(wave_BT, lengths_B)
        x_BLD = self.project(self.normalised(local_BLC))
        if mask_BL is not None:
            x_BLD = torch.where(mask_BL.unsqueeze(2), self.mask_embedding.to(x_BLD.dtype), x_BLD)
        h_BLD = self.context(x_BLD, frame_lengths_B, keep_layers=keep_layers)
        return HubertFrames(h_BLD, local_BLC, lengths=frame_lengths_B)

    def logits(self, context_ND: Tensor) -> Tensor:
        """Return (N, K) logits, in float32 at least: cosines with the cluster embeddings over the temperature.

        One product of normalised rows. torchaudio expands both sides to (K + 1, N, D) instead and
        rounds to the precision of the activations.
        """
        x_ND = self.final_proj(context_ND)
        with torch.autocast(x_ND.device.type, enabled=False):
            x_ND, labels_KD = (_unit_rows(rows) for rows in (x_ND, self.label_embeddings))
            return x_ND @ labels_KD.T / TEMPERATURE


def _unit_rows(rows: Tensor) -> Tensor:
    wide = rows if rows.dtype == torch.float64 else rows.float()
    return nn.functional.normalize(wide, dim=1, eps=_SMALLEST_NORM)
