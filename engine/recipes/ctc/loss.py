"""The CTC loss of a batch, with the utterances that have no alignment set apart.

Letters: B batch, T encoder frames, U tokens, V tokens that exist (0 is blank).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from models.layers.padding import valid_frames
from models.speech import BLANK


def ctc_losses(
    logits_BTV: Tensor, lengths_B: Tensor, *, tokens_BU: Tensor, token_lengths_B: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the loss of each utterance (B,) in nats, and whether it has an alignment (B,) bool.

    The loss is -log P(tokens | audio) over all alignments (Graves et al., 2006), in float32 at least; 0,
    without a gradient, for an utterance that has none. A text without tokens is aligned by blanks.

    Args:
        logits_BTV: scores of the tokens, 0 is the blank.
        lengths_B: valid frames.
        tokens_BU: the texts, padded with anything.
        token_lengths_B: their lengths.
    """
    wide = logits_BTV if logits_BTV.dtype == torch.float64 else logits_BTV.float()
    alignable_B = frames_needed(tokens_BU, token_lengths_B) <= lengths_B
    # An utterance without an alignment takes part as an empty text: an infinite loss has no gradient
    # that a zero weight would remove.
    asked_B = torch.where(alignable_B, token_lengths_B, 0)
    if wide.is_cuda and torch.are_deterministic_algorithms_enabled():
        # The kernel of the GPU adds gradients in any order.
        wide, tokens_BU, lengths_B, asked_B = (
            tensor.cpu() for tensor in (wide, tokens_BU, lengths_B, asked_B)
        )
    losses_B = functional.ctc_loss(
        wide.log_softmax(dim=-1).transpose(0, 1),
        tokens_BU,
        lengths_B,
        asked_B,
        blank=BLANK,
        reduction="none",
    ).to(alignable_B.device)
    return torch.where(alignable_B, losses_B, torch.zeros_like(losses_B)), alignable_B


def frames_needed(tokens_BU: Tensor, token_lengths_B: Tensor) -> Tensor:
    """Return the fewest frames (B,) that a text can be aligned with: equal neighbours need a blank."""
    later_BU = valid_frames(tokens_BU, token_lengths_B)[:, 1:]
    repeated_B = ((tokens_BU[:, 1:] == tokens_BU[:, :-1]) & later_BU).sum(dim=1)
    return token_lengths_B + repeated_B
