"""What the voice model says of the real places of items: cross-entropies and right predictions, as sums.

A text of u tokens has u + 1 places, the last of which is STOP; so have codes. Padding counts nowhere. Letters:
B items, U tokens, N codes, K what a place can be, S places.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from engine.batching.batch import Batch
from models.codec.quantised import in_full_precision
from models.voice.network import TEXT_STOP, Sequences, VoiceModel

TEXT, MEL = 0, 1
_TOP = 5


@dataclass(frozen=True, slots=True)
class PlaceSums:
    """Sums over the places of each item, (B,) float32 each.

    Attributes:
        loss: cross-entropy in nats.
        correct: places whose likeliest prediction is right.
        top5: places that are among the five likeliest.
    """

    loss: Tensor
    correct: Tensor
    top5: Tensor


def sequences_of(batch: Batch) -> Sequences:
    """Return texts and codes of a batch."""
    tensors = batch.tensors
    return Sequences(
        tensors["text"], tensors["text_length"], tensors["code"], tensors["code_length"]
    )


def count_places(batch: Batch) -> Tensor:
    """Return (B, 2) float32, the places of text and of codes of each item."""
    lengths = [batch.tensors["text_length"], batch.tensors["code_length"]]
    return torch.stack(lengths, dim=1).float() + 1


def place_sums(
    model: VoiceModel, batch: Batch, *, with_top5: bool = False
) -> tuple[PlaceSums, PlaceSums]:
    """Run the network on a batch; return the sums of texts, and of codes."""
    sequences = sequences_of(batch)
    vectors_BCD = model.reference_vectors(batch.tensors["reference"])
    text_BUK, code_BNK = model(vectors_BCD, sequences)
    text = _sums(
        text_BUK, sequences.text_BU, lengths_B=sequences.text_lengths_B, stop=TEXT_STOP,
        with_top5=with_top5,
    )  # fmt: skip
    mel = _sums(
        code_BNK, sequences.code_BN, lengths_B=sequences.code_lengths_B, stop=model.code_stop,
        with_top5=with_top5,
    )  # fmt: skip
    return text, mel


def _sums(
    logits_BSK: Tensor, token_BS: Tensor, *, lengths_B: Tensor, stop: int, with_top5: bool
) -> PlaceSums:
    token_BS = torch.nn.functional.pad(token_BS, (0, 1))
    place_S = torch.arange(token_BS.shape[1], device=token_BS.device)
    real_BS = place_S <= lengths_B[:, None]
    target_BS = torch.where(place_S == lengths_B[:, None], stop, token_BS)
    logits_BSK = in_full_precision(logits_BSK)
    # An index of -100 has no loss and gives no gradient.
    loss_BS = cross_entropy(
        logits_BSK.transpose(1, 2), target_BS.masked_fill(~real_BS, -100), reduction="none"
    )
    logits_BSK = logits_BSK.detach()
    right_BS = (logits_BSK.argmax(dim=-1) == target_BS) & real_BS
    top_BS = right_BS
    if with_top5:
        best = logits_BSK.topk(min(_TOP, logits_BSK.shape[-1]), dim=-1).indices
        top_BS = (best == target_BS[..., None]).any(dim=-1) & real_BS
    return PlaceSums(loss_BS.sum(dim=1), right_BS.sum(dim=1).float(), top_BS.sum(dim=1).float())
