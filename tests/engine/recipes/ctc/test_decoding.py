"""Claims about decoding CTC outputs: greedy collapses, the beam finds what brute force finds."""

from __future__ import annotations

from collections import defaultdict
from itertools import groupby, product
from math import inf, log

import numpy as np
import pytest
import torch

from engine.recipes.ctc.decoding import beam_search, greedy, log_likelihood


def texts_by_force(logits_TV):
    """Return the probability of every text, summed over every alignment."""
    log_TV = logits_TV.double().log_softmax(dim=-1).numpy()
    found = defaultdict(float)
    for path in product(range(log_TV.shape[1]), repeat=len(log_TV)):
        text = tuple(token for token, _ in groupby(path) if token)
        found[text] += float(np.exp(log_TV[range(len(path)), path].sum()))
    return found


def test_greedy_collapses_repetitions_and_drops_blanks_and_padding():
    best = [[0, 1, 1, 0, 1, 2, 2, 0], [2, 2, 0, 0, 1, 1, 1, 1]]
    logits = torch.nn.functional.one_hot(torch.tensor(best), 3).float()
    assert greedy(logits, [8, 3]) == [[1, 1, 2], [2]]
    assert greedy(logits, [0, 1]) == [[], [2]]


@pytest.mark.parametrize("seed", range(8))
def test_a_wide_beam_finds_what_brute_force_finds(seed):
    torch.manual_seed(seed)
    logits = 2 * torch.randn(5, 4)
    by_force = texts_by_force(logits)
    found = beam_search(logits, beam=1000)
    assert {tuple(item.tokens) for item in found} == by_force.keys()
    ranked = sorted(by_force.items(), key=lambda item: -item[1])
    assert [item.log_likelihood for item in found] == pytest.approx(
        [log(probability) for _, probability in ranked]
    )
    assert tuple(found[0].tokens) == ranked[0][0]


def test_a_beam_finds_a_text_that_greedy_search_misses():
    # Each frame alone prefers the blank, together they prefer the token.
    logits = torch.tensor([[0.6, 0.4], [0.6, 0.4]]).log()
    assert greedy(logits[None], [2]) == [[]]
    assert beam_search(logits, beam=2)[0].tokens == [1]
    assert beam_search(logits, beam=2)[0].log_likelihood == pytest.approx(log(1 - 0.36))


@pytest.mark.parametrize("beam", [1, 2, 5])
def test_a_beam_is_never_less_probable_than_greedy(beam):
    for seed in range(20):
        torch.manual_seed(seed)
        logits = torch.randn(12, 6)
        found = beam_search(logits, beam=beam)
        (by_greed,) = greedy(logits[None], [12])
        assert len(found) <= beam
        assert found[0].log_likelihood >= log_likelihood(logits, by_greed) - 1e-9


def test_what_has_no_alignment_is_impossible():
    assert log_likelihood(torch.zeros(2, 3), [1, 1]) == -inf
    assert log_likelihood(torch.zeros(2, 3), []) == pytest.approx(2 * log(1 / 3))
