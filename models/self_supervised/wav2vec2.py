"""wav2vec 2.0 (Baevski et al., 2020): an encoder of waveforms, and the quantiser whose codes it predicts.

Letters: B batch, T samples, L frames, C channels of the convolutions, D channels of the encoder, M masked
frames of the row that has most, F channels of the comparison, G groups and V entries of the codebooks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.self_supervised.conformer_encoder import ConformerWaveformEncoder
from models.self_supervised.frame_encoder import FrameEncoder, OnEncoder, built_encoder
from models.self_supervised.plugin_settings import PluginWaveformEncoder
from models.self_supervised.quantiser import GumbelQuantiser, Quantised
from models.self_supervised.wav2vec2_settings import Wav2Vec2Config, Wav2Vec2Head
from models.self_supervised.waveform_encoder import WaveformEncoder


@dataclass(frozen=True, slots=True)
class Masked:
    """The masked frames of a batch.

    Attributes:
        mask_BL: bool, the frames that are masked.
        places_BM: int64, the same as places in their row, in order; rows that have fewer are filled with 0.
    """

    mask_BL: Tensor
    places_BM: Tensor


@dataclass(frozen=True, slots=True)
class Sampling:
    """How codes are drawn in training; at evaluation the most likely ones are taken instead.

    Attributes:
        temperature: of the Gumbel-softmax.
        noise_BMGV: its noise.
    """

    temperature: float
    noise_BMGV: Tensor


@dataclass(frozen=True, slots=True)
class Begun:
    """What the convolutions and the quantiser give.

    Attributes:
        feat_BLC: the output of the convolutions.
        norm_BLC: the same, normalised.
        frame_lengths_B: valid frames of each item; None where all are.
        quantised: codes and logits of the masked frames, (B, M, ...).
    """

    feat_BLC: Tensor
    norm_BLC: Tensor
    frame_lengths_B: Tensor | None
    quantised: Quantised


@dataclass(frozen=True, slots=True)
class Wav2Vec2Output:
    """What the losses are computed of.

    Attributes:
        context_BMF: predictions at the masked frames.
        target_BMF: their codes in the same width.
        quantised: codes and logits, (B, M, ...).
        feat_BLC: the output of the convolutions.
        frame_lengths_B: valid frames of each item; None where all are.
    """

    context_BMF: Tensor
    target_BMF: Tensor
    quantised: Quantised
    feat_BLC: Tensor
    frame_lengths_B: Tensor | None


class Wav2Vec2(OnEncoder):
    """Encoder, quantiser and the two projections in front of the comparison."""

    def __init__(self, config: Wav2Vec2Head) -> None:
        encoder, dim, local_dim = _encoder_of(config)
        super().__init__(encoder)
        self.mask_embedding = nn.Parameter(torch.rand(dim))
        self.feature_dropout = nn.Dropout(config.feature_dropout)
        self.quantiser = GumbelQuantiser(
            local_dim, groups=config.code_groups, entries=config.code_entries, dim=config.code_dim
        )
        self.project_codes = nn.Linear(config.code_dim, config.final_dim)
        self.project_context = nn.Linear(dim, config.final_dim)

    def forward(
        self,
        wave_BT: Tensor,
        lengths_B: Tensor | None,
        *,
        masked: Masked,
        sampling: Sampling | None = None,
        keep_layers: Sequence[bool] | None = None,
    ) -> Wav2Vec2Output:
        """Predict the masked frames, and quantise the same frames unmasked.

        Args:
            wave_BT: waveforms.
            lengths_B: samples of each; None where none is padded.
            masked: what is masked.
            sampling: how codes are drawn; None: the most likely ones.
            keep_layers: whether each layer is applied; None: all are.
        """
        begun = self.begin(wave_BT, lengths_B, masked=masked, sampling=sampling)
        return self.finish(begun, masked, keep_layers=keep_layers)

    def begin(
        self,
        wave_BT: Tensor,
        lengths_B: Tensor | None,
        *,
        masked: Masked,
        sampling: Sampling | None = None,
    ) -> Begun:
        """Return the first part of `forward`, before the encoder behind the convolutions."""
        feat_BLC, frame_lengths_B, norm_BLC = self._features(wave_BT, lengths_B)
        quantised = self._quantise(norm_BLC, masked, sampling=sampling)
        return Begun(feat_BLC, norm_BLC, frame_lengths_B, quantised)

    def finish(
        self, begun: Begun, masked: Masked, *, keep_layers: Sequence[bool] | None = None
    ) -> Wav2Vec2Output:
        """Return what `forward` would, from its first part."""
        x_BLD = self.encoder.project(begun.norm_BLC)
        x_BLD = torch.where(masked.mask_BL[..., None], self.mask_embedding.to(x_BLD.dtype), x_BLD)
        h_BLD = self.encoder.context(x_BLD, begun.frame_lengths_B, keep_layers=keep_layers)
        return Wav2Vec2Output(
            self.project_context(_at(h_BLD, masked.places_BM)),
            self.project_codes(begun.quantised.vectors_ND),
            quantised=begun.quantised,
            feat_BLC=begun.feat_BLC,
            frame_lengths_B=begun.frame_lengths_B,
        )

    def code_logits(self, wave_BT: Tensor, lengths_B: Tensor | None, *, masked: Masked) -> Tensor:
        """Return the logits (B, M, G, V) of `forward`, without the encoder behind the convolutions.

        With torch's generator in the same state, dropout is that of `forward`, too.
        """
        _, _, norm_BLC = self._features(wave_BT, lengths_B)
        return self._quantise(norm_BLC, masked, sampling=None).logits_NGV

    def _features(
        self, wave_BT: Tensor, lengths_B: Tensor | None
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        feat_BLC, frame_lengths_B = self.encoder.local_features(wave_BT, lengths_B)
        return feat_BLC, frame_lengths_B, self.encoder.normalised(feat_BLC)

    def _quantise(
        self, norm_BLC: Tensor, masked: Masked, *, sampling: Sampling | None
    ) -> Quantised:
        # The first draw of a pass, so that `code_logits` makes the same one.
        x_BMC = self.feature_dropout(_at(norm_BLC, masked.places_BM))
        if sampling is None:
            quantised: Quantised = self.quantiser(x_BMC)
        else:
            quantised = self.quantiser(
                x_BMC, temperature=sampling.temperature, noise_NGV=sampling.noise_BMGV
            )
        return quantised


def _encoder_of(config: Wav2Vec2Head) -> tuple[FrameEncoder, int, int]:
    """Return the encoder, its width D and the channels C of its local features."""
    if isinstance(config, PluginWaveformEncoder):
        return built_encoder(config), config.dim, config.local_dim
    assert isinstance(config, Wav2Vec2Config)
    encoder = (
        ConformerWaveformEncoder(config, kernel=config.conformer_kernel)
        if config.encoder == "conformer"
        else WaveformEncoder(config)
    )
    return encoder, config.dim, config.conv_channels[-1]


def _at(x_BLD: Tensor, places_BM: Tensor) -> Tensor:
    """Return the frames (B, M, D) at the places of each row."""
    return x_BLD.gather(1, places_BM[..., None].expand(-1, -1, x_BLD.shape[2]))
