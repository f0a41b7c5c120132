"""A discrete codec of log-mel spectrograms: strided 1-D convolutions, a quantiser, and the way back.

`encode` and `decode` take and return log-mel in natural units; the normalisation is a part of the model, so
that a trained one is complete. Frames are in whole codes, and no item is padded: a convolution at the end of
padding would see other frames than one at the end of the item. Letters: B batch, F mel bands, L frames,
N codes of an item, D dimensions of a code, K codes, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.codec.codebook import Codebook
from models.codec.finite_scalar import FiniteScalarQuantiser
from models.codec.quantised import Quantised, in_full_precision
from models.codec.settings import MelCodecConfig


@dataclass(frozen=True, slots=True)
class CodecOutput:
    """What a forward pass returns.

    Attributes:
        target_BFL: the normalised input.
        estimate_BFL: what was made of its codes, normalised.
        vectors_BND: outputs of the encoder before they were quantised, float32, without a gradient.
        quantised: the codes.
    """

    target_BFL: Tensor
    estimate_BFL: Tensor
    vectors_BND: Tensor
    quantised: Quantised


class ResidualBlock(nn.Module):
    """Two convolutions of three frames and one of one, added to the input."""

    def __init__(self, channels: int, activation: type[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(channels, channels, 3, padding=1),
            activation(),
            nn.Conv1d(channels, channels, 3, padding=1),
            activation(),
            nn.Conv1d(channels, channels, 1),
        )

    def forward(self, x_BCL: Tensor) -> Tensor:
        """Return (B, C, L)."""
        return x_BCL + self.layers(x_BCL)  # type: ignore[no-any-return]


class MelCodec(nn.Module):
    """Encoder, quantiser and decoder.

    Args:
        config: its sizes; F is `config.mel_bands`.
    """

    mean_F: Tensor
    std_F: Tensor
    quantiser: FiniteScalarQuantiser | Codebook

    def __init__(self, config: MelCodecConfig) -> None:
        super().__init__()
        self.frames_per_code = config.frames_per_code
        self.register_buffer("mean_F", torch.zeros(config.mel_bands))
        self.register_buffer("std_F", torch.ones(config.mel_bands))
        self.quantiser = (
            FiniteScalarQuantiser(config.levels)
            if config.quantiser == "fsq"
            else Codebook(config.codes, config.code_dim)
        )
        self.encoder = _encoder(config)
        # Large outputs would saturate the levels of fsq, where there is no gradient to bring them back.
        self.norm = (
            nn.LayerNorm(config.channels[-1])
            if config.encoder_norm == "layer_norm"
            else nn.Identity()
        )
        self.to_codes = nn.Linear(config.channels[-1], self.quantiser.dim)
        self.from_codes = nn.Linear(self.quantiser.dim, config.channels[-1])
        self.decoder = _decoder(config)

    @property
    def num_codes(self) -> int:
        """Return K."""
        return self.quantiser.num_codes

    def normalise_by(self, mean_F: Tensor, std_F: Tensor) -> None:
        """Take mean and deviation of each band of the training data."""
        self.mean_F.copy_(mean_F)
        self.std_F.copy_(std_F)

    def forward(self, mel_BFL: Tensor) -> CodecOutput:
        """Encode, quantise and decode (B, F, L); L is a multiple of `frames_per_code`."""
        target_BFL = self._normalised(mel_BFL)
        vectors_BND = self._vectors(target_BFL)
        quantised = self.quantiser(vectors_BND)
        return CodecOutput(
            target_BFL,
            in_full_precision(self._decoded(quantised.vectors_ND)),
            in_full_precision(vectors_BND.detach()),
            quantised=quantised,
        )

    def encode(self, mel_BFL: Tensor) -> Tensor:
        """Return (B, N) int64, the codes of log-mel frames (B, F, L)."""
        index_BN: Tensor = self.quantiser(self._vectors(self._normalised(mel_BFL))).index_N
        return index_BN

    def decode(self, index_BN: Tensor) -> Tensor:
        """Return log-mel frames (B, F, L) of codes (B, N)."""
        return self.to_mel(
            in_full_precision(self._decoded(self.quantiser.indices_to_codes(index_BN)))
        )

    def to_mel(self, normal_BFL: Tensor) -> Tensor:
        """Return normalised frames (B, F, L) in natural units."""
        return normal_BFL * self.std_F[:, None] + self.mean_F[:, None]

    def vectors(self, mel_BFL: Tensor) -> Tensor:
        """Return (B, N, D) float32, the outputs of the encoder, before they are quantised."""
        return in_full_precision(self._vectors(self._normalised(mel_BFL)))

    def _normalised(self, mel_BFL: Tensor) -> Tensor:
        return (mel_BFL - self.mean_F[:, None]) / self.std_F[:, None]

    def _vectors(self, normal_BFL: Tensor) -> Tensor:
        assert normal_BFL.shape[-1] % self.frames_per_code == 0, normal_BFL.shape
        hidden_BNC = self.encoder(normal_BFL).transpose(1, 2)
        return self.to_codes(self.norm(hidden_BNC))  # type: ignore[no-any-return]

    def _decoded(self, codes_BND: Tensor) -> Tensor:
        return self.decoder(self.from_codes(codes_BND).transpose(1, 2))  # type: ignore[no-any-return]


def _encoder(config: MelCodecConfig) -> nn.Sequential:
    layers: list[nn.Module] = []
    width, activation = config.mel_bands, _activation(config)
    for channels, stride in zip(config.channels, config.strides, strict=True):
        # A kernel that ends where the next one begins sees every frame, and 3 at least, as published.
        kernel = max(3, stride + 1 - stride % 2)
        layers += [
            nn.Conv1d(width, channels, kernel, stride=stride, padding=kernel // 2),
            activation(),
        ]
        width = channels
    layers += [ResidualBlock(width, activation) for _ in range(config.residual_blocks)]
    return nn.Sequential(*layers)


def _decoder(config: MelCodecConfig) -> nn.Sequential:
    width, activation = config.channels[-1], _activation(config)
    layers: list[nn.Module] = [
        ResidualBlock(width, activation) for _ in range(config.residual_blocks)
    ]
    for channels, stride in zip(reversed(config.channels), reversed(config.strides), strict=True):
        layers += [
            nn.Upsample(scale_factor=stride, mode="nearest"),
            nn.Conv1d(width, channels, 3, padding=1),
            activation(),
        ]
        width = channels
    kernel = config.output_kernel
    layers.append(nn.Conv1d(width, config.mel_bands, kernel, padding=kernel // 2))
    return nn.Sequential(*layers)


def _activation(config: MelCodecConfig) -> type[nn.Module]:
    return nn.ReLU if config.activation == "relu" else nn.SiLU
