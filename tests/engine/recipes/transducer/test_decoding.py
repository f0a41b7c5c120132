"""Claims about decoding: what a script says is read back, bounded, and a beam is never worse."""

import itertools
import math

import pytest
import torch

from engine.recipes.transducer.decoding import (
    GreedyDecoder,
    beam_search,
    greedy,
    log_likelihood,
    most_tokens,
)
from models.speech_configs import ConformerRnntConfig
from models.transducer import build_transducer

TINY = ConformerRnntConfig(
    layers=1, dim=8, heads=2, ffn=8, kernel=3, encoding_dim=8, embedding=4, lstm_hidden=5,
    lstm_layers=2, dropout=0.0, lstm_dropout=0.0,
)  # fmt: skip


def tiny(seed=0, sharpness=4.0):
    torch.manual_seed(seed)
    model = build_transducer(TINY, num_mels=5, num_tokens=5).eval()
    with torch.no_grad():
        model.joiner.linear.weight *= sharpness
    return model


class Script:
    """Says at frame t what `said[t]` holds, one token after another, then a blank."""

    def __init__(self, *scripts):
        self.scripts = scripts

    def encodings(self):
        frames = max(map(len, self.scripts))
        enc = torch.zeros(len(self.scripts), frames, 2)
        enc[:, :, 0] = torch.arange(len(self.scripts))[:, None]
        enc[:, :, 1] = torch.arange(frames)
        return enc, [len(script) for script in self.scripts]

    def predict(self, tokens, state=None):
        # The memory counts the tokens that were said, the start not included.
        count = torch.zeros(len(tokens), 1) if state is None else state[0][0] + 1
        return count[:, None], [[count]]

    def join(self, enc, pred):
        logits = torch.zeros(*enc.shape[:2], pred.shape[1], 10)
        for b, t in itertools.product(range(enc.shape[0]), range(enc.shape[1])):
            script, frame = self.scripts[int(enc[b, t, 0])], int(enc[b, t, 1])
            before = sum(len(said) for said in script[:frame])
            said = script[frame] if frame < len(script) else []
            place = int(pred[b, 0, 0]) - before
            logits[b, t, 0, said[place] if 0 <= place < len(said) else 0] = 9.0
        return logits


def test_a_batch_reads_its_scripts():
    quiet = [[]] * 40
    model = Script(
        [[1], [], [2, 3], [], [4]],
        [[], []],
        [[5, 6, 7], *quiet, [8], *quiet, [9]],
    )
    enc, lengths = model.encodings()
    assert greedy(model, enc, lengths=lengths, most=[99] * 3) == [[1, 2, 3, 4], [], [5, 6, 7, 8, 9]]


class Chatter(Script):
    """Never says blank."""

    def join(self, enc, pred):
        logits = torch.zeros(*enc.shape[:2], pred.shape[1], 10)
        logits[..., 7] = 9.0
        return logits


def test_endless_talk_is_cut():
    model = Chatter([[]] * 4, [[]] * 2)
    enc, lengths = model.encodings()
    assert [len(tokens) for tokens in greedy(model, enc, lengths=lengths, most=[99, 99])] == [
        20,
        10,
    ]
    assert [len(tokens) for tokens in greedy(model, enc, lengths=lengths, most=[7, 99])] == [7, 10]
    assert most_tokens(2.0) == 70


def test_a_batch_is_decoded_as_its_utterances_alone():
    model = tiny()
    enc, lengths = torch.randn(4, 50, 8), [50, 7, 33, 1]
    together = greedy(model, enc, lengths=lengths, most=[30] * 4)
    alone = [
        greedy(model, enc[row : row + 1, :length], lengths=[length], most=[30])[0]
        for row, length in enumerate(lengths)
    ]
    assert together == alone
    assert any(together)


@pytest.mark.parametrize("size", [1, 7, 50])
def test_hearing_bit_by_bit_finds_what_hearing_all_finds(size):
    model = tiny()
    enc = torch.randn(2, 50, 8)
    decoder = GreedyDecoder(model, [40, 40], device=enc.device)
    for start in range(0, 50, size):
        part = enc[:, start : start + size]
        decoder.hear(part, [part.shape[1]] * 2)
    assert decoder.tokens == greedy(model, enc, lengths=[50, 50], most=[40, 40])
    assert any(decoder.tokens)


def plain_greedy(model, enc_TD, most):
    """Frame by frame, as in the books."""
    tokens = []
    pred, state = model.predict(torch.zeros(1, 1, dtype=torch.int64))
    for frame in enc_TD:
        for _ in range(5):
            best = int(model.join(frame[None, None], pred).argmax())
            if best == 0 or len(tokens) == most:
                break
            tokens.append(best)
            pred, state = model.predict(torch.tensor([[best]]), state)
    return tokens


@pytest.mark.parametrize("seed", range(6))
def test_looking_ahead_finds_what_going_frame_by_frame_finds(seed):
    model = tiny(seed)
    enc = torch.randn(1, 60, 8)
    assert greedy(model, enc, lengths=[60], most=[25]) == [plain_greedy(model, enc[0], 25)]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("beam", [1, 2, 5])
def test_a_beam_is_at_least_as_likely_as_greed(seed, beam):
    model = tiny(seed, sharpness=1.5)
    enc = torch.randn(12, 8)
    (by_greed,) = greedy(model, enc[None], lengths=[12], most=[20])
    found = beam_search(model, enc, beam=beam, most=20)
    likelihoods = [item.log_likelihood for item in found]
    assert likelihoods == sorted(likelihoods, reverse=True)
    assert len(found) <= beam
    assert likelihoods[0] >= log_likelihood(model, enc, by_greed)


def test_a_wide_beam_finds_the_likeliest_of_all_texts():
    model = tiny(1, sharpness=3.0)
    enc = torch.randn(3, 8)
    texts = [
        list(text) for length in range(4) for text in itertools.product(range(1, 5), repeat=length)
    ]
    best = max(texts, key=lambda text: log_likelihood(model, enc, text))
    (found, *_) = beam_search(model, enc, beam=60, most=3)
    assert found.tokens == best


def test_the_likelihoods_of_all_texts_add_up_to_one():
    model = tiny(2, sharpness=0.1)
    with torch.no_grad():
        model.joiner.linear.bias[0] += 4.0
    enc = torch.randn(2, 8)
    total = sum(
        math.exp(log_likelihood(model, enc, list(text)))
        for length in range(5)
        for text in itertools.product(range(1, 5), repeat=length)
    )
    assert 0.98 < total < 1.0
