"""Claims about generation: drawn as the settings say, repeatable, alone as in a batch, and it ends."""

from __future__ import annotations

import pytest
import torch

from models.voice.generation import Limits, Sampling, code_limit, generate
from models.voice.network import Sequences
from tests.models.voice.test_network import CODES, F, small


class Fixed(torch.nn.Module):
    """Speaks by the same logits at every place."""

    def __init__(self, logits):
        super().__init__()
        self.logits = logits
        self.max_text, self.max_codes = 100, 5_000
        self.code_start, self.code_stop = len(logits) - 2, len(logits) - 1

    def read(self, vectors_BCD, text_BU, *, lengths, room):
        return None

    def next_logits(self, cache, code_B, *, place):
        return self.logits.expand(len(code_B), -1).clone()


def spoken(logits, sampling, *, rows=1, most=2_000, stuck=0):
    return generate(
        Fixed(torch.tensor(logits)), [[1]] * rows, vectors_BCD=torch.zeros(rows, 1, 4), seeds=range(rows),
        limits=Limits([most] * rows, stuck), sampling=sampling,
    )  # fmt: skip


def shares(found, codes):
    return (torch.bincount(found.codes_N, minlength=codes) / len(found.codes_N)).tolist()


NEVER = -1e9
PROBS = torch.tensor([0.5, 0.25, 0.15, 0.1])
LOGITS = [*PROBS.log().tolist(), 99.0, NEVER]


@pytest.mark.parametrize(
    ("how", "wanted"),
    [
        ({}, [0.5, 0.25, 0.15, 0.1]),
        ({"temperature": 0.5}, [0.25, 0.0625, 0.0225, 0.01]),
        ({"top_k": 2}, [0.5, 0.25, 0, 0]),
        ({"top_p": 0.7}, [0.5, 0.25, 0, 0]),
        ({"top_p": 0.76}, [0.5, 0.25, 0.15, 0]),
        ({"top_p": 0.01}, [1, 0, 0, 0]),
        ({"temperature": 0.0}, [1, 0, 0, 0]),
        ({"temperature": 1e-310}, [1, 0, 0, 0]),
    ],
)
def test_codes_are_drawn_as_the_settings_say(how, wanted):
    whole = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "repetition_penalty": 1.0}
    (found,) = spoken(LOGITS, Sampling(**{**whole, **how}))
    assert len(found.codes_N) == 2_000
    total = sum(wanted)
    assert shares(found, 4) == pytest.approx([one / total for one in wanted], abs=0.035)
    assert [share > 0 for share in shares(found, 4)] == [one > 0 for one in wanted]


def test_a_penalty_falls_on_codes_that_were_spoken_and_on_no_other():
    how = Sampling(temperature=0.0, repetition_penalty=2.0)
    # 3.0 falls to 1.5, then 2.0 to 1.0; -1.0 is behind them until both were spoken, and never comes.
    (found,) = spoken([3.0, 2.0, -1.0, 99.0, NEVER], how, most=5)
    assert found.codes_N.tolist() == [0, 1, 0, 0, 0]
    (found,) = spoken([-1.0, -1.5, -3.0, 99.0, NEVER], how, most=3)
    assert found.codes_N.tolist() == [0, 1, 0]


def test_it_ends_at_stop_at_its_limit_or_where_it_is_stuck():
    how = Sampling(temperature=0.0, repetition_penalty=1.0)
    (found,) = spoken([0.0, 1.0, 99.0, 2.0], how)
    assert (found.ending, found.codes_N.tolist()) == ("stop", [])
    assert found.log_prob == pytest.approx(torch.tensor([0.0, 1.0, 2.0]).log_softmax(0)[2].item())
    (found,) = spoken([0.0, 1.0, 99.0, 0.5], how, most=7)
    assert (found.ending, found.codes_N.tolist()) == ("limit", [1] * 7)
    (found,) = spoken([0.0, 1.0, 99.0, 0.5], how, most=7, stuck=3)
    assert (found.ending, found.codes_N.tolist()) == ("stuck", [1] * 3)
    assert found.log_prob == pytest.approx(torch.tensor([0.0, 1.0, 0.5]).log_softmax(0)[1].item())


def test_a_candidate_is_the_same_alone_and_in_a_batch_and_with_the_same_seed():
    model = small()
    mel = torch.randn(4, 2, F, 11)
    texts = [[1, 2, 3], [4], [5, 6, 7, 8, 1], [2, 2]]
    with torch.no_grad():
        vectors = model.reference_vectors(mel)
    how = Sampling(temperature=1.3, top_k=0, top_p=1.0)

    def speak(rows, seeds):
        return generate(
            model, [texts[row] for row in rows], vectors_BCD=vectors[rows], seeds=seeds,
            limits=Limits([15 + row for row in rows]), sampling=how,
        )  # fmt: skip

    together = speak([0, 1, 2, 3], [7, 8, 9, 10])
    for row, one in enumerate(together):
        (alone,) = speak([row], [7 + row])
        assert alone.codes_N.tolist() == one.codes_N.tolist()
        assert alone.ending == one.ending
        assert alone.log_prob == pytest.approx(one.log_prob, abs=1e-5)
        assert all(code < CODES for code in one.codes_N.tolist())
    (other,) = speak([0], [8])
    assert other.codes_N.tolist() != together[0].codes_N.tolist()


def test_log_prob_is_that_of_the_model_as_it_is():
    model = small()
    with torch.no_grad():
        vectors = model.reference_vectors(torch.randn(1, 1, F, 11))
        (found,) = generate(
            model,
            [[1, 2]],
            vectors_BCD=vectors,
            seeds=[3],
            limits=Limits([12]),
            sampling=Sampling(top_k=3),
        )
        codes = found.codes_N[None]
        sequences = Sequences(
            torch.tensor([[1, 2]]), torch.tensor([2]), codes, torch.tensor([codes.shape[1]])
        )
        _, logits = model(vectors, sequences)
    logits[:, :, model.code_start] = -torch.inf
    log = logits[0].log_softmax(-1)
    spoken_logs = log[: codes.shape[1]].gather(1, codes[0, :, None])[:, 0].tolist()
    if found.ending == "stop":
        spoken_logs.append(log[-1, model.code_stop].item())
    assert found.log_prob == pytest.approx(sum(spoken_logs) / len(spoken_logs), abs=1e-4)


def test_a_text_that_is_too_long_is_refused_and_limits_follow_the_training_texts():
    model = small()
    with pytest.raises(
        ValueError, match="a text has 15 tokens, and the model was built for at most 14"
    ):
        generate(
            model, [[1] * 15], vectors_BCD=torch.zeros(1, 1, 32), seeds=[0], limits=Limits([5])
        )
    assert code_limit(10, codes_per_character=4.0, room=600) == 70
    assert code_limit(10, codes_per_character=4.0, room=50) == 50


def test_it_speaks_under_an_autocast_and_where_its_stack_is_compiled():
    """Keys and values are kept as they are computed; the compiled stack of training is not asked."""
    model = small()
    model.stack.compile(backend=lambda graph, inputs: pytest.fail("compiled"))
    vectors = torch.randn(2, 1, 32)
    with torch.autocast("cpu", torch.bfloat16):
        found = generate(
            model, [[1, 2], [3]], vectors_BCD=vectors, seeds=[0, 1], limits=Limits([9, 9]),
            sampling=Sampling(temperature=0.0),
        )  # fmt: skip
    assert all(torch.isfinite(torch.tensor(one.log_prob)) for one in found)
    assert {len(one.codes_N) for one in found} <= set(range(10))
