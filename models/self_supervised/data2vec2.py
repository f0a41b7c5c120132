"""The network of data2vec 2.0: frames of a waveform, a Transformer over those that are not masked, a decoder.

After fairseq's `examples/data2vec` (its audio modality). Layers are post-LN and give the output of their
feed-forward block beside their own, since that is what the teacher's targets are made of; attention is
biased by the distance of frames (ALiBi, Press et al., 2022) with a learned scale per head, since the frames
that are left after masking are not neighbours. The convolutions over the waveform are torchaudio's.
Padding changes no number. The teacher, targets and loss are the recipe's.

Letters: B batch, M masks of an item, N = B M, T samples, L frames, K kept frames, Q masked frames,
C channels of the convolutions, D channels of the Transformer, H heads.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log2, sqrt

import torch
from torch import Tensor, nn

from models.layers.padding import valid_frames
from models.self_supervised.data2vec2_settings import Data2Vec2Config, Data2Vec2EncoderSettings
from models.self_supervised.features import evaluation_mode
from models.self_supervised.waveform_encoder import new_feature_extractor, scale_gradient

_LINEAR_STD = 0.02


@dataclass(frozen=True, slots=True)
class Masks:
    """M masks of every item, and the same as places of frames, padded to the longest list.

    Attributes:
        mask_BML: which frames are masked; none after the end of an item.
        kept_BMK: places of the frames that are not; 0 beyond `num_kept_B`.
        masked_BMQ: places of those that are; 0 beyond `num_masked_B`.
        num_kept_B: kept frames of each mask of an item.
        num_masked_B: masked frames of each mask of an item.
    """

    mask_BML: Tensor
    kept_BMK: Tensor
    masked_BMQ: Tensor
    num_kept_B: Tensor
    num_masked_B: Tensor

    @property
    def clones(self) -> int:
        """M."""
        return self.mask_BML.shape[1]

    def of_kept(self) -> Tensor:
        """Return (N, K) bool: which places in `kept_BMK` are some."""
        return _within(self.kept_BMK, self.num_kept_B)

    def of_masked(self) -> Tensor:
        """Return (N, Q) bool: which places in `masked_BMQ` are some."""
        return _within(self.masked_BMQ, self.num_masked_B)


class Data2Vec2Encoder(nn.Module):
    """Local features and their context: what is used after pre-training."""

    def __init__(self, settings: Data2Vec2EncoderSettings) -> None:
        super().__init__()
        self.settings = settings
        self.feature_extractor = new_feature_extractor(settings)
        self.feature_norm = nn.LayerNorm(settings.conv_channels[-1])
        self.feature_projection = nn.Linear(settings.conv_channels[-1], settings.dim)
        self.context = ContextEncoder(settings)

    @property
    def compiled_parts(self) -> list[str]:
        """Names of the parts that `precision.compile` compiles; they are called one by one."""
        layers = [f"context.layers.{number}" for number in range(self.num_layers)]
        return ["feature_extractor", "context.position", *layers, "decoder"]

    @property
    def num_layers(self) -> int:
        """Number of Transformer layers, those of the prenet included."""
        return self.settings.prenet_layers + self.settings.layers

    def frames_of(self, samples: int) -> int:
        """Return how many frames a waveform of `samples` gives."""
        return self.settings.frames_of(samples)

    def local_features(
        self, wave_BT: Tensor, lengths_B: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Return projected frames (B, L, D), 0 after the end of an item, and valid frames (B, L).

        Args:
            wave_BT: waveforms, padded with anything.
            lengths_B: samples of each; None where all are as long as the batch, and then all frames
                are valid (None).
        """
        return self.project(*self.convolved(wave_BT, lengths_B))

    def convolved(
        self, wave_BT: Tensor, lengths_B: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the output of the convolutions (B, L, C), and the number of frames (B,)."""
        feat_BLC, frames_B = self.feature_extractor(wave_BT, lengths_B)
        return scale_gradient(feat_BLC, self.settings.feature_grad_scale), frames_B

    def project(self, feat_BLC: Tensor, frames_B: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return what `local_features` does of the output of the convolutions."""
        x_BLD: Tensor = self.feature_projection(self.feature_norm(feat_BLC))
        if frames_B is None:
            return x_BLD, None
        valid_BL = valid_frames(x_BLD, frames_B)
        return x_BLD * valid_BL[..., None], valid_BL

    @torch.no_grad()
    def layer_features(self, wave_BT: Tensor, lengths_B: Tensor | None = None) -> list[Tensor]:
        """Return frames (B, L, D) of every layer, as `GivesLayerFeatures` asks for."""
        with evaluation_mode(self):
            local_BLD, valid_BL = self.local_features(wave_BT, lengths_B)
            return [h_BLD for h_BLD, _ in self.context.over_all(local_BLD, valid_BL)]


class Data2Vec2(Data2Vec2Encoder):
    """The student: `local_features`, then `predict` for its masked frames, `layer_features` for use."""

    settings: Data2Vec2Config

    def __init__(self, settings: Data2Vec2Config) -> None:
        super().__init__(settings)
        self.decoder = ConvDecoder(settings)

    def predict(
        self,
        local_BLD: Tensor,
        masks: Masks,
        *,
        valid_BL: Tensor | None = None,
        keep_layers: Sequence[bool] | None = None,
    ) -> Tensor:
        """Return what the masked frames are predicted to be, (N, Q, D).

        Args:
            local_BLD: local features; each mask has its own copy of them.
            masks: the masks.
            valid_BL: valid frames; None where all are.
            keep_layers: whether each layer behind the prenet is applied; None: all are.
        """
        place_NK, kept_NK = masks.kept_BMK.flatten(0, 1), masks.of_kept()
        mask_NL = masks.mask_BML.flatten(0, 1)
        valid_NL = None if valid_BL is None else valid_BL.repeat_interleave(masks.clones, dim=0)
        x_NLD = local_BLD.repeat_interleave(masks.clones, dim=0) * ~mask_NL[..., None]
        x_NLD = x_NLD + self.context.position(x_NLD, valid_NL)
        h_NKD = take(x_NLD, place_NK)
        # Where nothing is padded, all lists of places are equally long.
        among_NK = None if valid_BL is None else kept_NK
        outputs = self.context(h_NKD, place_NK, valid_NK=among_NK, keep_layers=keep_layers)
        (h_NKD, _), *_ = deque(outputs, maxlen=1)
        seen_NLD = self._with_noise(h_NKD, mask_NL, place_NK=place_NK, kept_NK=kept_NK)
        z_NLE = self.decoder(seen_NLD, valid_NL)
        return self.decoder.project(take(z_NLE, masks.masked_BMQ.flatten(0, 1)))

    def _with_noise(
        self, h_NKD: Tensor, mask_NL: Tensor, *, place_NK: Tensor, kept_NK: Tensor
    ) -> Tensor:
        """Return the decoder's input (N, L, D): kept frames in their places, noise in all others."""
        settings = self.settings
        h_NKD = nn.functional.dropout(h_NKD, settings.decoder_dropout, training=self.training)
        shape = (*mask_NL.shape, h_NKD.shape[-1])
        if settings.mask_noise and self.training:
            noise_NLD = torch.randn(shape, device=h_NKD.device, dtype=h_NKD.dtype)
            x_NLD = noise_NLD * settings.mask_noise * mask_NL[..., None]
        else:
            x_NLD = h_NKD.new_zeros(shape)
        # Lists of places end in zeros: those add nothing.
        return x_NLD.scatter_add(1, _over(place_NK, h_NKD), h_NKD * kept_NK[..., None])


class ContextEncoder(nn.Module):
    """Position, prenet and layers: what the teacher is an average of."""

    def __init__(self, settings: Data2Vec2EncoderSettings) -> None:
        super().__init__()
        self.position = PositionConvs(settings)
        self.norm = nn.LayerNorm(settings.dim)
        self.dropout = nn.Dropout(settings.prenet_dropout)
        self.prenet_layers = settings.prenet_layers
        self.layers = nn.ModuleList(
            PostNormLayer(settings) for _ in range(settings.prenet_layers + settings.layers)
        )
        # One set for all layers, kept above 0 where it is used.
        self.alibi_scale = nn.Parameter(torch.ones(settings.heads))
        slopes_H = torch.tensor(alibi_slopes(settings.heads))
        self.register_buffer("slopes_H", slopes_H, persistent=False)

    def over_all(
        self,
        local_BLD: Tensor,
        valid_BL: Tensor | None = None,
        *,
        keep_layers: Sequence[bool] | None = None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield what `forward` does for local features of which no frame is masked."""
        h_BLD = local_BLD + self.position(local_BLD, valid_BL)
        place_BL = torch.arange(h_BLD.shape[1], device=h_BLD.device)[None]
        return self.forward(h_BLD, place_BL, valid_NK=valid_BL, keep_layers=keep_layers)

    def forward(
        self,
        h_NKD: Tensor,
        place_NK: Tensor,
        *,
        valid_NK: Tensor | None = None,
        keep_layers: Sequence[bool] | None = None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (input of the first layer) twice, then of each layer its output and that of its feed-forward block.

        Args:
            h_NKD: frames with their position encoded.
            place_NK: where each frame was, for the bias of distance; (1, K) where all rows are alike.
            valid_NK: which frames are some; None where all are.
            keep_layers: whether each layer behind the prenet is applied; None: all are.
        """
        h_NKD = self.dropout(self.norm(h_NKD))
        yield h_NKD, h_NKD
        bias_NHKK = self._bias(place_NK, valid_NK)
        keeps = [True] * self.prenet_layers + list(keep_layers or [True] * len(self.layers))
        for layer, keep in zip(self.layers, keeps, strict=False):
            if keep:
                h_NKD, ffn_NKD = layer(h_NKD, bias_NHKK)
            else:
                ffn_NKD = h_NKD
            yield h_NKD, ffn_NKD

    def _bias(self, place_NK: Tensor, valid_NK: Tensor | None) -> Tensor:
        """Return what is added to the attention scores, float32 (N or 1, H, K, K)."""
        assert isinstance(self.slopes_H, Tensor)
        slopes_H = self.slopes_H * self.alibi_scale.float().clamp(min=0)
        apart_NKK = (place_NK[:, :, None] - place_NK[:, None, :]).abs().float()
        bias_NHKK = -slopes_H[:, None, None] * apart_NKK[:, None]
        if valid_NK is None:
            return bias_NHKK
        # A row without any frame would be NaN, so it attends to its first place.
        valid_NK = valid_NK | (torch.arange(valid_NK.shape[1], device=valid_NK.device) == 0)
        return bias_NHKK.masked_fill(~valid_NK[:, None, None], float("-inf"))


class PostNormLayer(nn.Module):
    """A Transformer layer with layer norm after attention and after the feed-forward block."""

    def __init__(self, settings: Data2Vec2EncoderSettings) -> None:
        super().__init__()
        dim = settings.dim
        self.heads = settings.heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.attention_out = nn.Linear(dim, dim)
        self.attention_dropout = nn.Dropout(settings.attention_dropout)
        self.dropout = nn.Dropout(settings.dropout)
        self.attention_norm = nn.LayerNorm(dim)
        self.ffn_in = nn.Linear(dim, settings.ffn)
        self.ffn_out = nn.Linear(settings.ffn, dim)
        self.activation_dropout = nn.Dropout(settings.activation_dropout)
        self.ffn_dropout = nn.Dropout(settings.ffn_dropout)
        self.ffn_norm = nn.LayerNorm(dim)
        for linear in (self.qkv, self.attention_out, self.ffn_in, self.ffn_out):
            nn.init.normal_(linear.weight, std=_LINEAR_STD)
            nn.init.zeros_(linear.bias)

    def forward(self, x_NKD: Tensor, bias_NHKK: Tensor) -> tuple[Tensor, Tensor]:
        """Return the output of the layer, and of its feed-forward block before the residual is added."""
        x_NKD = self.attention_norm(x_NKD + self.dropout(self._attention(x_NKD, bias_NHKK)))
        hidden = self.activation_dropout(nn.functional.gelu(self.ffn_in(x_NKD)))
        ffn_NKD = self.ffn_out(hidden)
        return self.ffn_norm(x_NKD + self.ffn_dropout(ffn_NKD)), ffn_NKD

    def _attention(self, x_NKD: Tensor, bias_NHKK: Tensor) -> Tensor:
        """Return attention over the frames; the bias is float32, so scores and softmax are at least that."""
        q, k, v = self.qkv(x_NKD).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        scores_NHKK = (q * (1 / sqrt(q.shape[-1]))) @ k.transpose(-2, -1) + bias_NHKK
        weights_NHKK = self.attention_dropout(scores_NHKK.softmax(dim=-1))
        seen_NHKE = weights_NHKK.to(v.dtype) @ v
        out_NKD: Tensor = self.attention_out(seen_NHKE.transpose(1, 2).flatten(2))
        return out_NKD


class PositionConvs(nn.Module):
    """Convolutions that tell a frame where it is relative to others."""

    def __init__(self, settings: Data2Vec2EncoderSettings) -> None:
        super().__init__()
        kernel = max(3, settings.pos_conv_width // settings.pos_conv_layers)
        self.convs = nn.ModuleList(
            ConvNormGelu(settings.dim, settings.dim, kernel=kernel, groups=settings.pos_conv_groups)
            for _ in range(settings.pos_conv_layers)
        )

    def forward(self, x_NLD: Tensor, valid_NL: Tensor | None = None) -> Tensor:
        """Return what is to be added to frames (N, L, D)."""
        for conv in self.convs:
            x_NLD = conv(x_NLD, valid_NL)
        return x_NLD


class ConvDecoder(nn.Module):
    """Convolutions over all frames, and the projection of those that are predicted. E: its channels."""

    def __init__(self, settings: Data2Vec2Config) -> None:
        super().__init__()
        widths = [settings.dim, *[settings.decoder_dim] * settings.decoder_layers]
        self.convs = nn.ModuleList(
            ConvNormGelu(
                width_in, width_out, kernel=settings.decoder_kernel, groups=settings.decoder_groups
            )
            for width_in, width_out in pairwise(widths)
        )
        self.projection = nn.Linear(settings.decoder_dim, settings.dim)

    def forward(self, x_NLD: Tensor, valid_NL: Tensor | None = None) -> Tensor:
        """Return frames (N, L, E); a layer adds its input where the widths agree."""
        for conv in self.convs:
            z_NLE = conv(x_NLD, valid_NL)
            x_NLD = z_NLE + x_NLD if z_NLE.shape == x_NLD.shape else z_NLE
        return x_NLD

    def project(self, z_NQE: Tensor) -> Tensor:
        """Return predictions (N, Q, D)."""
        out_NQD: Tensor = self.projection(z_NQE)
        return out_NQD


class ConvNormGelu(nn.Module):
    """A convolution over frames, layer norm without weights, GELU; length stays."""

    def __init__(self, channels_in: int, channels_out: int, *, kernel: int, groups: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(channels_in, channels_out, kernel, padding=kernel // 2, groups=groups)

    def forward(self, x_NLD: Tensor, valid_NL: Tensor | None = None) -> Tensor:
        """Return frames (N, L, D'); what is read after the end of an item is 0."""
        if valid_NL is not None:
            x_NLD = x_NLD * valid_NL[..., None]
        y_NLD = self.conv(x_NLD.transpose(1, 2))[..., : x_NLD.shape[1]].transpose(1, 2)
        return nn.functional.gelu(nn.functional.layer_norm(y_NLD, y_NLD.shape[-1:]))


def alibi_slopes(heads: int) -> list[float]:
    """Return the slope of each head: a geometric series, filled in from a finer one (Press et al., 2022)."""

    def series(count: int) -> list[float]:
        return [2 ** (-8 * (head + 1) / count) for head in range(count)]

    whole = 2 ** int(log2(heads))
    return series(whole) + series(2 * whole)[::2][: heads - whole]


def take(x_NLD: Tensor, place_NK: Tensor) -> Tensor:
    """Return the frames at the places (N, K, D)."""
    return x_NLD.gather(1, _over(place_NK, x_NLD))


def _over(place_NK: Tensor, x_NLD: Tensor) -> Tensor:
    return place_NK[..., None].expand(-1, -1, x_NLD.shape[-1])


def _within(place_BMK: Tensor, count_B: Tensor) -> Tensor:
    number_K = torch.arange(place_BMK.shape[2], device=place_BMK.device)
    within_BK = number_K < count_B[:, None]
    return within_BK.repeat_interleave(place_BMK.shape[1], dim=0)
