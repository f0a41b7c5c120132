"""CTC models (Graves et al., 2006): an encoder of audio, and one linear layer over the tokens.

Letters: B batch, L frames of audio, F numbers of a frame, T frames of the encoder, D channels, V tokens
that exist (0 is blank).
"""

from __future__ import annotations

from torch import Tensor, nn

from models.speech import SpeechModel, Tuning
from models.speech_configs import CtcConfig
from models.transducer import build_encoder


class CtcModel(SpeechModel):
    """Encoder and head; arguments as `models.speech.SpeechModel`.

    Args:
        encoder: the encoder; its output has `encoding_dim` channels.
        encoding_dim: D.
        num_features: F.
        num_tokens: V, blank included.
        vocabulary: names the tokens.
    """

    def __init__(
        self,
        encoder: nn.Module,
        *,
        encoding_dim: int,
        num_features: int,
        num_tokens: int,
        vocabulary: bytes = b"",
    ) -> None:
        super().__init__(encoder, num_features=num_features, vocabulary=vocabulary)
        self.head = nn.Linear(encoding_dim, num_tokens)

    def forward(
        self, feat_BLF: Tensor, lengths_B: Tensor, *, tuning: Tuning | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return logits (B, T, V) and the numbers of valid frames (B,)."""
        enc_BTD, enc_lengths_B = self.encode(feat_BLF, lengths_B, tuning=tuning)
        return self.head(enc_BTD), enc_lengths_B


def build_ctc(
    config: CtcConfig, *, num_features: int, num_tokens: int, vocabulary: bytes = b""
) -> CtcModel:
    """Return a freshly initialised CTC model on the CPU; draws from torch's default generator."""
    return CtcModel(
        build_encoder(config, num_mels=num_features),
        encoding_dim=config.encoding_dim,
        num_features=num_features,
        num_tokens=num_tokens,
        vocabulary=vocabulary,
    )
