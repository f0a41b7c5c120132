"""The voice model: one causal stack over reference vectors, a text and the codes of speech.

A sequence is [vectors] [START text STOP] [START codes STOP]; text and codes have embeddings, positions and
heads of their own, and the last STOP is predicted but not read. Items are packed from the left, so that
padding stands behind what a place may see: no mask is needed, and an item is the same in any batch.

Letters: B batch, R clips of an item, F mel bands, L frames of a clip, C reference vectors of an item,
U tokens of a text, N codes, S places of a sequence, D channels, V tokens of the text vocabulary with STOP
and START, K codes with START and STOP.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.voice.reference_encoder import ReferenceEncoder
from models.voice.settings import VoiceConfig
from models.voice.stack import Cache, CausalStack, init_normal

# Token 0 of every vocabulary (`engine.text.tokens`); as in the published model.
TEXT_STOP = 0


@dataclass(frozen=True, slots=True)
class Sequences:
    """Texts and codes of a batch, padded with anything.

    Attributes:
        text_BU: int64 tokens, without START and STOP.
        text_lengths_B: their numbers.
        code_BN: int64 codes, without START and STOP.
        code_lengths_B: their numbers.
    """

    text_BU: Tensor
    text_lengths_B: Tensor
    code_BN: Tensor
    code_lengths_B: Tensor


class VoiceModel(nn.Module):
    """The network, with all that a checkpoint needs to be used but the codec.

    Args:
        config: its sizes.
        mel_bands: F, of the codec.
        num_codes: codes of the codec, K - 2.
        num_tokens: tokens of the vocabulary, V - 1: token 0 is STOP, the one after the last START.
        vocabulary: names the tokens (`engine.text.tokens`); opaque here, kept in checkpoints.
    """

    compiled_parts = ("stack",)

    vocabulary: Tensor

    def __init__(
        self,
        config: VoiceConfig,
        *,
        mel_bands: int,
        num_codes: int,
        num_tokens: int,
        vocabulary: bytes = b"",
    ) -> None:
        super().__init__()
        self.max_text, self.max_codes = config.max_text, config.max_codes
        self.text_start = num_tokens
        self.code_start, self.code_stop = num_codes, num_codes + 1
        self._averages = config.reference_vectors == "one"
        self.register_buffer("vocabulary", torch.tensor(list(vocabulary), dtype=torch.uint8))
        dim = config.dim
        self.reference_encoder = ReferenceEncoder(
            mel_bands, dim=dim, layers=config.reference_layers, heads=config.heads
        )
        self.text_embedding = nn.Embedding(num_tokens + 1, dim)
        self.text_positions = nn.Embedding(config.max_text, dim)
        self.code_embedding = nn.Embedding(num_codes + 2, dim)
        self.code_positions = nn.Embedding(config.max_codes, dim)
        self.stack = CausalStack(
            layers=config.layers, dim=dim, heads=config.heads, dropout=config.dropout
        )
        self.final_norm = nn.LayerNorm(dim)
        self.text_head = nn.Linear(dim, num_tokens + 1)
        self.code_head = nn.Linear(dim, num_codes + 2)
        for module in self.children():
            if isinstance(module, nn.Linear | nn.Embedding):
                init_normal(module)

    def normalise_by(self, mean_F: Tensor, std_F: Tensor) -> None:
        """Take mean and deviation of each mel band of the codec."""
        self.reference_encoder.mean_F.copy_(mean_F)
        self.reference_encoder.std_F.copy_(std_F)

    @property
    def num_codes(self) -> int:
        """Codes of the codec, without START and STOP."""
        return self.code_start

    def reference_vectors(self, mel_BRFL: Tensor) -> Tensor:
        """Return (B, C, D) of the log-mel frames of reference clips, R of each item."""
        vectors_BRD = self.reference_encoder(mel_BRFL.flatten(0, 1)).unflatten(
            0, mel_BRFL.shape[:2]
        )
        return self.merged(vectors_BRD)

    def merged(self, vectors_BRD: Tensor) -> Tensor:
        """Return (B, C, D) of the vectors of single clips."""
        return vectors_BRD.mean(dim=1, keepdim=True) if self._averages else vectors_BRD

    def forward(self, vectors_BCD: Tensor, sequences: Sequences) -> tuple[Tensor, Tensor]:
        """Return logits of texts (B, U + 1, V) and of codes (B, N + 1, K).

        Place u of a text predicts token u, or STOP where u is its length; so for codes. What stands behind
        that means nothing.
        """
        text_BSD = self._text(sequences.text_BU, sequences.text_lengths_B)
        code_BSD = self._codes(sequences.code_BN)
        x_BSD = torch.cat([vectors_BCD.to(text_BSD.dtype), text_BSD, code_BSD], dim=1)
        vectors, text_room, code_room = (
            vectors_BCD.shape[1],
            text_BSD.shape[1],
            code_BSD.shape[1],
        )
        # Codes move up to the end of their text, and padding with them to the end of the sequence.
        first_B = vectors + sequences.text_lengths_B + 2
        gap_B = vectors + text_room - first_B
        place_S = torch.arange(x_BSD.shape[1], device=x_BSD.device)
        source_BS = place_S + gap_B[:, None] * (place_S >= first_B[:, None])
        out_BSD = self._run(_picked(x_BSD, source_BS.clamp(max=x_BSD.shape[1] - 1)))
        code_place_BS = first_B[:, None] + torch.arange(code_room, device=x_BSD.device)
        return (
            self.text_head(out_BSD[:, vectors : vectors + text_room - 1]),
            self.code_head(_picked(out_BSD, code_place_BS)),
        )

    def read(
        self, vectors_BCD: Tensor, text_BU: Tensor, *, lengths: Sequence[int], room: int
    ) -> Cache:
        """Read vectors and texts; return a cache with room for so many codes, START included."""
        lengths_B = torch.tensor(list(lengths), device=text_BU.device)
        text_BSD = self._text(text_BU, lengths_B)
        x_BSD = torch.cat([vectors_BCD.to(text_BSD.dtype), text_BSD], dim=1)
        places = x_BSD.shape[1]
        cache = self.stack.new_cache(places + room)
        # Not as it may be compiled: it would be so again for every length of the cache.
        self.stack.forward(x_BSD, cache=cache)
        if len(set(lengths)) > 1:
            place_S = torch.arange(places + room, device=x_BSD.device)
            behind_BS = place_S >= vectors_BCD.shape[1] + lengths_B[:, None] + 2
            cache.hidden_BS = behind_BS & (place_S < places)
        return cache

    def next_logits(self, cache: Cache, code_B: Tensor, *, place: int) -> Tensor:
        """Read the code at a place (START is at 0); return (B, K) logits of the one behind it, float32."""
        x_BD = self.code_embedding(code_B) + self.code_positions.weight[place]
        out_BSD = self.final_norm(self.stack.forward(x_BD[:, None], cache=cache))
        logits_BK: Tensor = self.code_head(out_BSD[:, 0])
        return logits_BK.to(torch.promote_types(logits_BK.dtype, torch.float32))

    def _text(self, text_BU: Tensor, lengths_B: Tensor) -> Tensor:
        """Return (B, U + 2, D): START, tokens, and STOP from the end of each on."""
        place_U = torch.arange(text_BU.shape[1], device=text_BU.device)
        ended_BU = place_U >= lengths_B[:, None]
        token_BU = nn.functional.pad(text_BU.masked_fill(ended_BU, TEXT_STOP), (0, 1))
        token_BU = nn.functional.pad(token_BU, (1, 0), value=self.text_start)
        return _embedded(token_BU, self.text_embedding, positions=self.text_positions)

    def _codes(self, code_BN: Tensor) -> Tensor:
        """Return (B, N + 1, D): START and codes."""
        code_BN = nn.functional.pad(code_BN, (1, 0), value=self.code_start)
        return _embedded(code_BN, self.code_embedding, positions=self.code_positions)

    def _run(self, x_BSD: Tensor) -> Tensor:
        return self.final_norm(self.stack(x_BSD))  # type: ignore[no-any-return]


def _embedded(token_BS: Tensor, embedding: nn.Embedding, *, positions: nn.Embedding) -> Tensor:
    return embedding(token_BS) + positions.weight[: token_BS.shape[1]]  # type: ignore[no-any-return]


def _picked(x_BSD: Tensor, place_BS: Tensor) -> Tensor:
    """Return the places of each item (B, S, D)."""
    return x_BSD.gather(1, place_BS[:, :, None].expand(-1, -1, x_BSD.shape[2]))
