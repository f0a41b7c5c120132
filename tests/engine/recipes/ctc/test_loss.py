"""Claims about the CTC loss: it sums over all alignments, and texts without one cost nothing."""

from __future__ import annotations

from itertools import groupby, product
from math import log

import pytest
import torch

from engine.recipes.ctc.loss import ctc_losses, frames_needed
from models.speech import BLANK


def collapsed(path):
    return tuple(token for token, _ in groupby(path) if token != BLANK)


def probability(log_TV, tokens):
    """Return P(tokens) as the sum over all alignments, one by one."""
    frames, count = log_TV.shape
    return sum(
        log_TV[range(frames), path].sum().exp().item()
        for path in product(range(count), repeat=frames)
        if collapsed(path) == tuple(tokens)
    )


def losses(logits, tokens, *, lengths=None):
    longest = max(map(len, tokens), default=0)
    padded = torch.tensor([[*text, *[1] * (longest - len(text))] for text in tokens])
    return ctc_losses(
        logits,
        torch.tensor(lengths or [logits.shape[1]] * len(logits)),
        tokens_BU=padded.reshape(len(tokens), longest).long(),
        token_lengths_B=torch.tensor([len(text) for text in tokens]),
    )


@pytest.mark.parametrize("tokens", [(), (1,), (1, 2), (1, 1), (2, 1, 2)])
def test_the_loss_sums_over_all_alignments(tokens):
    torch.manual_seed(0)
    logits = torch.randn(1, 5, 3, dtype=torch.float64)
    (loss,), (alignable,) = losses(logits, [tokens])
    assert alignable
    log_TV = logits[0].log_softmax(dim=-1)
    assert float(loss) == pytest.approx(-log(probability(log_TV, tokens)))


def test_frames_needed_count_a_blank_between_equal_tokens():
    tokens = torch.tensor([[1, 1, 2, 2], [1, 2, 1, 1], [1, 1, 1, 1]])
    assert frames_needed(tokens, torch.tensor([4, 3, 0])).tolist() == [6, 3, 0]


def test_texts_without_an_alignment_change_nothing():
    torch.manual_seed(0)
    logits = torch.randn(3, 4, 3, dtype=torch.float64, requires_grad=True)
    found, alignable = losses(logits, [(1, 1, 1), (1, 2), (2, 2)], lengths=[4, 4, 2])
    assert alignable.tolist() == [False, True, False]
    assert found[0] == found[2] == 0
    found.sum().backward()
    assert logits.grad[[0, 2]].abs().max() == 0
    alone = logits.detach()[1:2].requires_grad_()
    losses(alone, [(1, 2)])[0].sum().backward()
    torch.testing.assert_close(alone.grad[0], logits.grad[1])


def test_an_empty_text_is_aligned_by_blanks_and_has_a_gradient():
    logits = torch.zeros(1, 3, 4, dtype=torch.float64, requires_grad=True)
    (loss,), _ = losses(logits, [()])
    assert loss.item() == pytest.approx(3 * log(4))
    loss.backward()
    assert logits.grad[0, :, BLANK].tolist() == pytest.approx([-0.75] * 3)


def test_padding_has_no_gradient():
    torch.manual_seed(0)
    logits = torch.randn(2, 6, 3, requires_grad=True)
    found, _ = losses(logits, [(1, 2), (2,)], lengths=[6, 3])
    found.sum().backward()
    assert logits.grad[1, 3:].abs().max() == 0
    assert logits.grad[1, :3].abs().max() > 0


def test_half_precision_is_widened():
    torch.manual_seed(0)
    logits = torch.randn(1, 6, 3)
    exact, _ = losses(logits.bfloat16().float(), [(1, 2)])
    found, _ = losses(logits.bfloat16(), [(1, 2)])
    assert found.dtype == torch.float32
    assert torch.equal(found, exact)
