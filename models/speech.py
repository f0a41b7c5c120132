"""What every recogniser of speech has: an encoder of audio, the statistics of its input, and its tokens.

Letters: B batch, L frames of audio, F numbers of a frame (mel bands, or 1 where frames are samples), T
frames of the encoder, D channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from models.layers.padding import zero_padding

# Token 0 of every vocabulary.
BLANK = 0


@dataclass(frozen=True, slots=True)
class Tuning:
    """How an encoder of waveforms is trained in one step; the default changes nothing.

    Attributes:
        time_mask: (B, T) bool, the frames that the mask embedding replaces; T as the encoder has frames.
        channel_mask: (B, D) bool, the channels of each item that are set to 0.
        keep_layers: whether each layer is applied; None: all are.
        train_extractor: whether gradients reach the convolutions.
        train_encoder: whether they reach the encoder at all.
    """

    time_mask: Tensor | None = None
    channel_mask: Tensor | None = None
    keep_layers: Sequence[bool] | None = None
    train_extractor: bool = True
    train_encoder: bool = True


class Encoder(Protocol):
    """Maps normalised frames (B, L, F), 0 after `lengths`, to (B, T, D) and their lengths (B,)."""

    def __call__(self, feat_BLF: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        """Encode; frames beyond the returned lengths mean nothing."""


@runtime_checkable
class StreamingEncoder(Protocol):
    """An encoder that needs no more than a part of the audio at a time."""

    def segments(self, feat_BLF: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Yield for one segment after another how many frames it needs, and its encodings (B, T, D)."""


class SpeechModel(nn.Module):
    """An encoder with all that a checkpoint needs to be used.

    Args:
        encoder: an `Encoder`.
        num_features: F.
        vocabulary: names the tokens (`engine.text.tokens`); opaque here, kept in checkpoints.
    """

    # What follows the encoder loops over tokens, or takes a shape of its own for each slice.
    compiled_parts = ("encoder",)

    mel_mean: Tensor
    mel_std: Tensor
    vocabulary: Tensor

    def __init__(self, encoder: nn.Module, *, num_features: int, vocabulary: bytes) -> None:
        super().__init__()
        self.encoder = encoder
        self.register_buffer("mel_mean", torch.zeros(num_features))
        self.register_buffer("mel_std", torch.ones(num_features))
        self.register_buffer("vocabulary", torch.tensor(list(vocabulary), dtype=torch.uint8))

    def normalise_by(self, mean_F: Tensor, std_F: Tensor) -> None:
        """Set the global mean and deviation of each mel band; they travel with the weights."""
        self.mel_mean.copy_(mean_F)
        self.mel_std.copy_(std_F)

    def encode(
        self, feat_BLF: Tensor, lengths_B: Tensor, *, tuning: Tuning | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return encodings (B, T, D) of frames, and their lengths (B,), at least 1.

        `tuning` is for encoders of waveforms, and None outside of training.
        """
        x_BLF = zero_padding((feat_BLF - self.mel_mean) / self.mel_std, lengths_B)
        more = {} if tuning is None else {"tuning": tuning}
        enc_BTD, enc_lengths_B = self.encoder(x_BLF, lengths_B, **more)
        return enc_BTD, enc_lengths_B
