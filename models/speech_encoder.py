"""An encoder of waveforms as recognisers of speech use it: fine-tuned, or trained from scratch.

Its weights have the names they have in pre-training. Letters: B batch, T samples, L frames, C channels
of the convolutions, D channels of the Transformer, E channels of the encodings.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from models.layers.padding import valid_frames
from models.self_supervised.data2vec2 import Data2Vec2Encoder
from models.self_supervised.settings import WaveformEncoderSettings
from models.self_supervised.waveform_encoder import WaveformEncoder, scale_gradient
from models.speech import Tuning

_NO_TUNING = Tuning()


class WaveformSpeechEncoder(WaveformEncoder):
    """Maps samples to encodings, as `models.speech.Encoder` asks for; padding changes no number.

    Args:
        settings: the sizes.
        encoding_dim: E, by one more linear layer; None: the frames of the Transformer, E = D.
    """

    def __init__(
        self, settings: WaveformEncoderSettings, *, encoding_dim: int | None = None
    ) -> None:
        super().__init__(settings)
        self.mask_embedding = nn.Parameter(torch.rand(settings.dim))
        self.output = None if encoding_dim is None else nn.Linear(settings.dim, encoding_dim)

    def forward(  # type: ignore[override]
        self, feat_BT1: Tensor, lengths_B: Tensor, *, tuning: Tuning = _NO_TUNING
    ) -> tuple[Tensor, Tensor]:
        """Return encodings (B, L, E) and the number of frames (B,), at least 1.

        Args:
            feat_BT1: samples, 0 after the length of each item.
            lengths_B: samples of each.
            tuning: masks, and what is trained.
        """
        with gradients(tuning.train_encoder):
            with gradients(tuning.train_extractor):
                local_BLC, frame_lengths_B = self._convolved(feat_BT1.squeeze(2), lengths_B)
            x_BLD = self._masked(self.project(self.normalised(local_BLC)), tuning)
            h_BLD = self.context(x_BLD, frame_lengths_B, keep_layers=tuning.keep_layers)
        return (h_BLD if self.output is None else self.output(h_BLD)), frame_lengths_B.clamp(min=1)

    def _convolved(self, wave_BT: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        """Return local features; with group norm, its statistics are those of the valid frames."""
        if self.settings.extractor_norm != "group_norm":
            local_BLC, frame_lengths_B = self.local_features(wave_BT, lengths_B)
            assert frame_lengths_B is not None
            return local_BLC, frame_lengths_B
        x_BCT = wave_BT.unsqueeze(1)
        for block in self.feature_extractor.conv_layers:
            x_BCT = block.conv(x_BCT)
            lengths_B = (lengths_B - block.kernel_size).div(block.stride, rounding_mode="floor") + 1
            lengths_B = lengths_B.clamp(min=0)
            if block.layer_norm is not None:
                x_BCT = _instance_norm(block.layer_norm, x_BCT, lengths_B=lengths_B)
            x_BCT = nn.functional.gelu(x_BCT)
        return scale_gradient(x_BCT.transpose(1, 2), self.settings.feature_grad_scale), lengths_B

    def _masked(self, x_BLD: Tensor, tuning: Tuning) -> Tensor:
        """Replace masked frames, then set masked channels to 0."""
        if tuning.time_mask is not None:
            mask_BL = tuning.time_mask
            x_BLD = torch.where(mask_BL.unsqueeze(2), self.mask_embedding.to(x_BLD.dtype), x_BLD)
        if tuning.channel_mask is not None:
            x_BLD = x_BLD.masked_fill(tuning.channel_mask.unsqueeze(1), 0.0)
        return x_BLD


class Data2VecSpeechEncoder(Data2Vec2Encoder):
    """The same with the encoder of data2vec 2.0: E = D, and masked frames are 0, as in pre-training."""

    def forward(
        self, feat_BT1: Tensor, lengths_B: Tensor, *, tuning: Tuning = _NO_TUNING
    ) -> tuple[Tensor, Tensor]:
        """Return encodings (B, L, D) and the number of frames (B,), at least 1; as above."""
        with gradients(tuning.train_encoder):
            with gradients(tuning.train_extractor):
                feat_BLC, frames_B = self.convolved(feat_BT1.squeeze(2), lengths_B)
            assert frames_B is not None
            x_BLD, valid_BL = self.project(feat_BLC, frames_B)
            if tuning.time_mask is not None:
                x_BLD = x_BLD.masked_fill(tuning.time_mask.unsqueeze(2), 0.0)
            if tuning.channel_mask is not None:
                x_BLD = x_BLD.masked_fill(tuning.channel_mask.unsqueeze(1), 0.0)
            outputs = self.context.over_all(x_BLD, valid_BL, keep_layers=tuning.keep_layers)
            (h_BLD, _), *_ = deque(outputs, maxlen=1)
        return h_BLD, frames_B.clamp(min=1)


@contextmanager
def gradients(wanted: bool) -> Iterator[None]:
    """Leave gradients as they are where they are wanted; otherwise compute none."""
    if wanted:
        yield
        return
    with torch.no_grad():
        yield


def _instance_norm(norm: nn.GroupNorm, x_BCT: Tensor, *, lengths_B: Tensor) -> Tensor:
    """Normalise each channel by mean and variance of its valid frames, in float32 at least.

    That is what a group norm of one channel a group computes for an item without padding.
    """
    wide_BCT = x_BCT if x_BCT.dtype == torch.float64 else x_BCT.float()
    valid_B1T = valid_frames(x_BCT.transpose(1, 2), lengths_B).unsqueeze(1)
    count_B11 = lengths_B.clamp(min=1)[:, None, None].to(wide_BCT.dtype)
    mean_BC1 = wide_BCT.masked_fill(~valid_B1T, 0.0).sum(2, keepdim=True) / count_B11
    centred_BCT = (wide_BCT - mean_BC1).masked_fill(~valid_B1T, 0.0)
    variance_BC1 = centred_BCT.square().sum(2, keepdim=True) / count_B11
    y_BCT = centred_BCT * torch.rsqrt(variance_BC1 + norm.eps)
    return (y_BCT * norm.weight[:, None] + norm.bias[:, None]).to(x_BCT.dtype)
