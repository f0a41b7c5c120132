"""HuBERT (Hsu et al., 2021): an encoder of waveforms that predicts the cluster of each frame.

Letters: B batch, T samples, L frames, N frames of several items, C channels of the convolutions,
D channels of the Transformer, K clusters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.self_supervised.frame_encoder import FrameEncoder, OnEncoder, built_encoder
from models.self_supervised.plugin_settings import PluginWaveformEncoder
from models.self_supervised.settings import HubertConfig, HubertHead
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


class PredictsClusters(nn.Module):
    """What HuBERT has behind an encoder: the embedding of masked frames, and the prediction of clusters."""

    mask_embedding: nn.Parameter
    final_proj: nn.Linear
    label_embeddings: nn.Parameter

    @property
    def steps(self) -> FrameEncoder:
        """The encoder."""
        raise NotImplementedError

    def add_head(self, *, dim: int, final_dim: int, clusters: int) -> None:
        """Add the parameters of masks and predictions."""
        self.mask_embedding = nn.Parameter(torch.rand(dim))
        self.final_proj = nn.Linear(dim, final_dim)
        # Uniform in (0, 1) as in fairseq and torchaudio: all embeddings start out close to each other.
        self.label_embeddings = nn.Parameter(torch.rand(clusters, final_dim))

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
            keep_layers: as in `FrameEncoder.layer_outputs`.
        """
        encoder = self.steps
        local_BLC, frame_lengths_B = encoder.local_features(wave_BT, lengths_B)
        x_BLD = encoder.project(encoder.normalised(local_BLC))
        if mask_BL is not None:
            x_BLD = torch.where(mask_BL.unsqueeze(2), self.mask_embedding.to(x_BLD.dtype), x_BLD)
        h_BLD = encoder.context(x_BLD, frame_lengths_B, keep_layers=keep_layers)
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


class Hubert(PredictsClusters, WaveformEncoder):
    """The built-in encoder with its head; the names of the weights are torchaudio's.

    Args:
        config: the sizes.
        clusters: K.
    """

    def __init__(self, config: HubertConfig, *, clusters: int) -> None:
        super().__init__(config)
        self.add_head(dim=config.dim, final_dim=config.final_dim, clusters=clusters)

    @property
    def steps(self) -> FrameEncoder:
        """The network itself."""
        return self


class HubertOnEncoder(PredictsClusters, OnEncoder):
    """The head of HuBERT on the encoder of another package.

    Args:
        encoder: settings of the encoder.
        final_dim: width in which frames and cluster embeddings are compared.
        clusters: K.

    Raises:
        ValueError: when the package builds something else.
    """

    def __init__(self, encoder: PluginWaveformEncoder, *, final_dim: int, clusters: int) -> None:
        super().__init__(built_encoder(encoder))
        self.add_head(dim=encoder.dim, final_dim=final_dim, clusters=clusters)

    @property
    def steps(self) -> FrameEncoder:
        """The encoder."""
        return self.encoder


def build_hubert(config: HubertHead, *, clusters: int) -> PredictsClusters:
    """Return a freshly initialised network on K clusters, around the encoder that `config` is of."""
    if isinstance(config, PluginWaveformEncoder):
        return HubertOnEncoder(config, final_dim=config.final_dim, clusters=clusters)
    assert isinstance(config, HubertConfig)
    return Hubert(config, clusters=clusters)


def _unit_rows(rows: Tensor) -> Tensor:
    wide = rows if rows.dtype == torch.float64 else rows.float()
    return nn.functional.normalize(wide, dim=1, eps=_SMALLEST_NORM)
