"""Transducers (RNN-T): an encoder of audio, a predictor of text, and the joint network over both.

Parts are torchaudio's; what is added here makes every output independent of padding: an utterance
gives the same numbers alone and in any batch. Letters: B batch, L frames of audio, F mel bands,
T frames of the encoder, U tokens, D channels, V tokens that exist (0 is blank and the start).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_never

import torch
from torch import Tensor, nn

from models.layers.conformer import conformer_layer
from models.layers.padding import valid_frames
from models.speech import BLANK, SpeechModel, StreamingEncoder, Tuning
from models.speech_configs import (
    ConformerDims,
    ConformerRnntConfig,
    CtcConfig,
    CtcConformerConfig,
    CtcData2Vec2Config,
    CtcEncoderConfig,
    EmformerRnntConfig,
    PluginEncoder,
    TransducerConfig,
    TransducerHead,
    WaveformRnntConfig,
)
from models.speech_encoder import Data2VecSpeechEncoder, WaveformSpeechEncoder

# As in torchaudio's recipes.
_LSTM_EPSILON = 1e-3

# The predictor's memory: for each layer its output and its cell, (B, H) each.
State = list[list[Tensor]]


class Transducer(SpeechModel):
    """Encoder, predictor and joint network, with all that a checkpoint needs to be used.

    Args:
        encoder: the encoder; its output has `config.encoding_dim` channels.
        config: settings of predictor and joint network.
        num_mels: F, or 1 where the encoder takes samples.
        num_tokens: V, blank included.
        vocabulary: names the tokens (`engine.text.tokens`); opaque here, kept in checkpoints.
    """

    def __init__(
        self,
        encoder: nn.Module,
        config: TransducerHead,
        *,
        num_mels: int,
        num_tokens: int,
        vocabulary: bytes = b"",
    ) -> None:
        super().__init__(encoder, num_features=num_mels, vocabulary=vocabulary)
        from torchaudio.models.rnnt import _Joiner, _Predictor

        self.predictor = _Predictor(
            num_tokens,
            config.encoding_dim,
            config.embedding,
            config.lstm_layers,
            config.lstm_hidden,
            lstm_layer_norm=True,
            lstm_layer_norm_epsilon=_LSTM_EPSILON,
            lstm_dropout=config.lstm_dropout,
        )
        self.joiner = _Joiner(config.encoding_dim, num_tokens, config.joint_activation)

    def forward(
        self,
        feat_BLF: Tensor,
        lengths_B: Tensor,
        tokens_BU: Tensor,
        *,
        tuning: Tuning | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return encodings (B, T, D), their lengths (B,) and predictions (B, U + 1, D)."""
        enc_BTD, enc_lengths_B = self.encode(feat_BLF, lengths_B, tuning=tuning)
        pred_BUD, _ = self.predict(nn.functional.pad(tokens_BU, (1, 0), value=BLANK))
        return enc_BTD, enc_lengths_B, pred_BUD

    def stream(self, feat_BLF: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Yield what `EmformerEncoder.segments` does; no other encoder can.

        Raises:
            ValueError: for an encoder that needs whole utterances.
        """
        if not isinstance(self.encoder, StreamingEncoder):
            raise ValueError(
                "a Conformer needs the whole utterance and can't stream; use an Emformer"
            )
        return self.encoder.segments((feat_BLF - self.mel_mean) / self.mel_std)

    def predict(self, tokens_BU: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Return predictions (B, U, D) after each token, and the memory to go on from."""
        pred_BUD, _, state = self.predictor(tokens_BU, _full(tokens_BU), state)
        assert state is not None
        return pred_BUD, state

    def join(self, enc_BTD: Tensor, pred_BUD: Tensor) -> Tensor:
        """Return logits (B, T, U, V) of every encoding with every prediction."""
        logits_BTUV: Tensor = self.joiner(enc_BTD, _full(enc_BTD), pred_BUD, _full(pred_BUD))[0]
        return logits_BTUV


class ConformerEncoder(nn.Module):
    """torchaudio's Conformer behind stacked frames; padding changes no number (`models.layers.conformer`)."""

    def __init__(self, config: ConformerDims, *, num_mels: int, encoding_dim: int) -> None:
        super().__init__()
        from torchaudio.models import Conformer

        self.stride = config.stride
        self.input_linear = nn.Linear(num_mels * config.stride, config.dim)
        self.conformer = Conformer(
            config.dim, config.heads, config.ffn, config.layers, config.kernel, config.dropout,
            use_group_norm=True,
        )  # fmt: skip
        self.output_linear = nn.Linear(config.dim, encoding_dim)
        self.layer_norm = nn.LayerNorm(encoding_dim)

    def forward(self, feat_BLF: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        """Return encodings (B, T, D), T = ceil(L / stride), and their lengths (B,)."""
        lengths_B = ceil_div(lengths_B, self.stride)
        x_BTD = self.input_linear(stack(feat_BLF, self.stride))
        padded_BT = ~valid_frames(x_BTD, lengths_B)
        x_TBD = x_BTD.transpose(0, 1)
        for layer in self.conformer.conformer_layers:
            x_TBD = conformer_layer(layer, x_TBD, padded_BT=padded_BT)
        return self.layer_norm(self.output_linear(x_TBD.transpose(0, 1))), lengths_B


class EmformerEncoder(nn.Module):
    """torchaudio's Emformer; every utterance is followed by silence up to whole segments and look-ahead.

    torchaudio masks padding only up to the longest of a batch, and not at all in a batch of one. Here
    all frames count as valid, and those after an utterance are zeros: attention stays inside a
    segment, its left and right context, so the frames of an utterance see the same zeros in any batch.
    """

    def __init__(self, config: EmformerRnntConfig, *, num_mels: int) -> None:
        super().__init__()
        from torchaudio.models.rnnt import _EmformerEncoder

        self.stride, self.segment, self.look_ahead = (
            config.stride, config.segment, config.right_context,
        )  # fmt: skip
        self.transcriber = _EmformerEncoder(
            input_dim=num_mels,
            output_dim=config.encoding_dim,
            segment_length=config.segment,
            right_context_length=config.right_context,
            time_reduction_input_dim=config.dim // config.stride,
            time_reduction_stride=config.stride,
            transformer_num_heads=config.heads,
            transformer_ffn_dim=config.ffn,
            transformer_num_layers=config.layers,
            transformer_left_context_length=config.left_context,
            transformer_dropout=config.dropout,
            transformer_activation="gelu",
            transformer_max_memory_size=config.memory,
            transformer_tanh_on_mem=True,
        )

    def forward(self, feat_BLF: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        """Return encodings (B, T, D) of whole segments, and their lengths (B,)."""
        frames = feat_BLF.shape[1]
        whole = -(-frames // self.segment) * self.segment
        x_BLF = nn.functional.pad(feat_BLF, (0, 0, 0, whole - frames + self.look_ahead))
        all_B = torch.full_like(lengths_B, whole)
        enc_BTD, _ = self.transcriber(x_BLF, all_B)
        return enc_BTD, ceil_div(lengths_B, self.stride)

    def segments(self, feat_BLF: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Yield for one segment after another how many frames it needs, and its encodings (B, T, D).

        A segment needs the frames up to its end, `look_ahead` more, and what is remembered of those
        before; put together they are what `forward` returns, without what follows the last frame.
        """
        frames = feat_BLF.shape[1]
        whole = -(-frames // self.segment) * self.segment
        x_BLF = nn.functional.pad(feat_BLF, (0, 0, 0, whole - frames + self.look_ahead))
        size = self.segment + self.look_ahead
        lengths_B = torch.full((len(x_BLF),), size, device=x_BLF.device)
        state: list[State] | None = None
        for start in range(0, whole, self.segment):
            enc_BTD, _, state = self.transcriber.infer(
                x_BLF[:, start : start + size], lengths_B, state
            )
            valid = -(-(frames - start) // self.stride)
            yield start + size, enc_BTD[:, :valid]


def build_transducer(
    config: TransducerConfig, *, num_mels: int, num_tokens: int, vocabulary: bytes = b""
) -> Transducer:
    """Return a freshly initialised transducer on the CPU; draws from torch's default generator."""
    encoder = build_encoder(config, num_mels=num_mels)
    return Transducer(
        encoder, config, num_mels=num_mels, num_tokens=num_tokens, vocabulary=vocabulary
    )


def build_encoder(config: TransducerConfig | CtcConfig, *, num_mels: int) -> nn.Module:
    """Return a freshly initialised `Encoder` on the CPU, for a transducer or another recipe.

    Raises:
        ValueError: when the package of a plug-in builds no network.
    """
    match config:
        case ConformerRnntConfig() | CtcConformerConfig():
            return ConformerEncoder(config, num_mels=num_mels, encoding_dim=config.encoding_dim)
        case EmformerRnntConfig():
            return EmformerEncoder(config, num_mels=num_mels)
        case WaveformRnntConfig():
            return WaveformSpeechEncoder(config, encoding_dim=config.encoding_dim)
        case CtcEncoderConfig():
            return WaveformSpeechEncoder(config)
        case CtcData2Vec2Config():
            return Data2VecSpeechEncoder(config)
        case PluginEncoder():
            encoder = config.build(num_mels=num_mels)
            if not isinstance(encoder, nn.Module):
                raise ValueError(
                    f"model.kind = {config.kind!r}: its package built {type(encoder).__name__}, "
                    "expected a torch.nn.Module"
                )
            return encoder
    assert_never(config)


def stack(feat_BLF: Tensor, stride: int) -> Tensor:
    """Return (B, ceil(L / stride), stride * F): neighbouring frames side by side, zeros at the end."""
    batch, frames, mels = feat_BLF.shape
    feat_BLF = nn.functional.pad(feat_BLF, (0, 0, 0, -frames % stride))
    return feat_BLF.reshape(batch, -1, stride * mels)


def ceil_div(lengths_B: Tensor, stride: int) -> Tensor:
    """Return lengths after stacking `stride` frames."""
    return (lengths_B + (stride - 1)).div(stride, rounding_mode="floor")


def _full(x: Tensor) -> Tensor:
    """Return lengths (B,) that count every place; torchaudio's modules only pass them on."""
    return torch.full((x.shape[0],), x.shape[1], device=x.device)
