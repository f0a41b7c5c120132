"""From the outputs of a CTC model to tokens: greedy search for a batch, prefix beam search for one utterance.

Letters: B batch, T encoder frames, P prefixes, V tokens that exist (0 is blank).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import numpy as np
import torch
from torch import Tensor

from engine.recipes.ctc.loss import ctc_losses
from engine.recipes.speech.hypothesis import Hypothesis
from models.speech import BLANK

# Log probabilities of a prefix: of its alignments that end in a blank, and of those that end in its last token.
_Scores = tuple[float, float]


def greedy(logits_BTV: Tensor, lengths: Sequence[int]) -> list[list[int]]:
    """Return the tokens of each utterance: the best of each frame, repetitions and blanks removed.

    Args:
        logits_BTV: scores of the tokens.
        lengths: B numbers of valid frames.
    """
    best_BT = logits_BTV.argmax(dim=-1).cpu().numpy()
    return [_collapsed(best_T[:length]) for best_T, length in zip(best_BT, lengths, strict=True)]


def beam_search(logits_TV: Tensor, *, beam: int) -> list[Hypothesis]:
    """Return up to `beam` hypotheses for one utterance, the most probable first.

    Prefix beam search (Hannun et al., 2014) without a language model: alignments of equal texts are
    summed, the best `beam` prefixes continue. At the end every survivor, and the greedy result, is
    scored over all alignments, so the result is never less probable than that of greedy search.

    Args:
        logits_TV: scores of the tokens at each frame of the utterance, none of padding.
        beam: number of prefixes to keep, at least 1.
    """
    log_TV = logits_TV.detach().double().log_softmax(dim=-1).cpu().numpy()
    prefixes: dict[tuple[int, ...], _Scores] = {(): (0.0, -inf)}
    for log_V in log_TV:
        prefixes = _step(prefixes, log_V, beam=beam)
    candidates = [list(prefix) for prefix in prefixes]
    (by_greed,) = greedy(logits_TV[None], [len(logits_TV)])
    if by_greed not in candidates:
        candidates.append(by_greed)
    scored = [Hypothesis(tokens, log_likelihood(logits_TV, tokens)) for tokens in candidates]
    return sorted(scored, key=lambda item: -item.log_likelihood)[:beam]


@torch.no_grad()
def log_likelihood(logits_TV: Tensor, tokens: Sequence[int]) -> float:
    """Return log P(tokens | audio), summed over all alignments; -inf where there is none."""
    device = logits_TV.device
    losses_1, alignable_1 = ctc_losses(
        logits_TV[None].double(),
        torch.tensor([len(logits_TV)], device=device),
        tokens_BU=torch.tensor([list(tokens)], dtype=torch.int64, device=device),
        token_lengths_B=torch.tensor([len(tokens)], device=device),
    )
    return -float(losses_1) if bool(alignable_1) else -inf


def _step(
    prefixes: dict[tuple[int, ...], _Scores], log_V: np.ndarray, *, beam: int
) -> dict[tuple[int, ...], _Scores]:
    """Return the best prefixes after one more frame, the most probable first."""
    longer = np.argsort(-log_V[1:], kind="stable")[:beam] + 1
    after: dict[tuple[int, ...], _Scores] = {}
    for prefix, (by_blank, by_token) in prefixes.items():
        both = np.logaddexp(by_blank, by_token)
        last = prefix[-1] if prefix else BLANK
        again = by_token + log_V[last] if prefix else -inf
        _add(after, prefix, by_blank=both + log_V[BLANK], by_token=again)
        for token in longer.tolist():
            # A second token like the last one is a new one only after a blank.
            score = (by_blank if token == last else both) + log_V[token]
            if score > -inf:
                _add(after, (*prefix, token), by_token=score)
    ranked = sorted(after.items(), key=lambda item: -np.logaddexp(*item[1]))
    return dict(ranked[:beam])


def _add(
    after: dict[tuple[int, ...], _Scores],
    prefix: tuple[int, ...],
    *,
    by_blank: float = -inf,
    by_token: float = -inf,
) -> None:
    blank, token = after.get(prefix, (-inf, -inf))
    after[prefix] = (
        float(np.logaddexp(blank, by_blank)),
        float(np.logaddexp(token, by_token)),
    )


def _collapsed(best_T: np.ndarray) -> list[int]:
    first_T = np.ones(len(best_T), dtype=bool)
    first_T[1:] = best_T[1:] != best_T[:-1]
    tokens: list[int] = best_T[first_T & (best_T != BLANK)].tolist()
    return tokens
