"""Claims about the voice model: blind to padding, causal, and the same with its cache as without."""

from __future__ import annotations

import pytest
import torch

from models.voice.network import Sequences, VoiceModel
from models.voice.settings import VoiceConfig

SMALL = {
    "layers": 3, "dim": 32, "heads": 4, "dropout": 0.0, "max_text": 16, "max_codes": 24,
    "reference_layers": 2,
}  # fmt: skip
F, CODES, TOKENS = 6, 20, 9


def small(**changes):
    torch.manual_seed(0)
    model = VoiceModel(
        VoiceConfig(**{**SMALL, **changes}), mel_bands=F, num_codes=CODES, num_tokens=TOKENS
    )
    # Fresh ones barely attend; these do.
    for param in model.parameters():
        if param.dim() > 1:
            torch.nn.init.normal_(param, std=0.2)
    model.normalise_by(torch.randn(F), torch.rand(F) + 0.5)
    return model.eval()


def batch(lengths, *, pad=0, seed=0):
    """Return sequences of (tokens, codes) lengths, padded with numbers that mean something elsewhere."""
    gen = torch.Generator().manual_seed(seed)
    texts, codes = (max(one) + pad for one in zip(*lengths, strict=True))
    return Sequences(
        torch.randint(1, TOKENS, (len(lengths), texts), generator=gen),
        torch.tensor([u for u, _ in lengths]),
        torch.randint(CODES, (len(lengths), codes), generator=gen),
        torch.tensor([n for _, n in lengths]),
    )


def alone(sequences, row):
    texts, codes = int(sequences.text_lengths_B[row]), int(sequences.code_lengths_B[row])
    return Sequences(
        sequences.text_BU[row : row + 1, :texts], sequences.text_lengths_B[row : row + 1],
        sequences.code_BN[row : row + 1, :codes], sequences.code_lengths_B[row : row + 1],
    )  # fmt: skip


RAGGED = ((3, 9), (7, 2), (1, 14), (5, 0))
BOTH = pytest.mark.parametrize("vectors", ["one", "each"])


@BOTH
def test_an_item_is_the_same_in_any_batch(vectors):
    model = small(reference_vectors=vectors)
    mel = torch.randn(len(RAGGED), 2, F, 11)
    for pad in (0, 3):
        sequences = batch(RAGGED, pad=pad)
        text, code = model(model.reference_vectors(mel), sequences)
        assert text.shape == (4, 8 + pad, TOKENS + 1)
        assert code.shape == (4, 15 + pad, CODES + 2)
        for row, (tokens, codes) in enumerate(RAGGED):
            own_text, own_code = model(
                model.reference_vectors(mel[row : row + 1]), alone(sequences, row)
            )
            torch.testing.assert_close(text[row, : tokens + 1], own_text[0], rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(code[row, : codes + 1], own_code[0], rtol=1e-4, atol=1e-5)


def test_places_see_what_comes_before_them_and_nothing_else():
    model = small()
    mel = torch.randn(1, 1, F, 11)
    sequences = batch([(5, 8)])
    with torch.no_grad():
        text, code = model(model.reference_vectors(mel), sequences)

        def changed(**tensors):
            other = Sequences(
                tensors.get("text", sequences.text_BU), sequences.text_lengths_B,
                tensors.get("code", sequences.code_BN), sequences.code_lengths_B,
            )  # fmt: skip
            mels = tensors.get("mel", mel)
            one, two = model(model.reference_vectors(mels), other)
            return (one - text).abs().amax(dim=(0, 2)) > 1e-6, (two - code).abs().amax(
                dim=(0, 2)
            ) > 1e-6

        later = sequences.code_BN.clone()
        later[0, 4] = (later[0, 4] + 1) % CODES
        text_moved, code_moved = changed(code=later)
        assert not text_moved.any()
        assert code_moved.tolist() == [False] * 5 + [True] * 4
        other = sequences.text_BU.clone()
        other[0, 2] = other[0, 2] % (TOKENS - 1) + 1
        text_moved, code_moved = changed(text=other)
        assert text_moved.tolist() == [False] * 3 + [True] * 3
        assert code_moved.all()
        text_moved, code_moved = changed(mel=mel + torch.randn_like(mel))
        assert text_moved.all()
        assert code_moved.all()


@BOTH
def test_cached_logits_are_those_of_the_whole_sequence_at_every_step(vectors):
    model = small(reference_vectors=vectors)
    mel = torch.randn(len(RAGGED), 3, F, 11)
    sequences = batch([(u, 14) for u, _ in RAGGED])
    lengths = [u for u, _ in RAGGED]
    with torch.no_grad():
        vectors_BCD = model.reference_vectors(mel)
        _, whole = model(vectors_BCD, sequences)
        for rows in (slice(None), slice(1, 2)):
            texts = sequences.text_BU[rows, : max(lengths[rows])]
            cache = model.read(vectors_BCD[rows], texts, lengths=lengths[rows], room=15)
            code_B = torch.full((len(texts),), model.code_start)
            for place in range(15):
                logits = model.next_logits(cache, code_B, place=place)
                assert (logits - whole[rows, place]).abs().max() < 1e-5, place
                code_B = sequences.code_BN[rows, min(place, 13)]


def test_padding_gets_no_gradient_from_real_places():
    model = small()
    sequences = batch(RAGGED)
    vectors = torch.randn(4, 1, 32, requires_grad=True)
    text, code = model(vectors, sequences)
    (text[1, :8].sum() + code[1, :3].sum()).backward()
    used = torch.zeros(CODES + 2, dtype=torch.bool)
    used[sequences.code_BN[1, :2]] = True
    used[model.code_start] = True
    assert (model.code_embedding.weight.grad.abs().amax(dim=1) > 0).tolist() == used.tolist()
    assert vectors.grad[1].abs().max() > 0
    assert vectors.grad[[0, 2, 3]].abs().max() == 0


def test_fresh_weights_are_as_in_gpt_2():
    torch.manual_seed(0)
    model = VoiceModel(
        VoiceConfig(layers=8, dim=256, heads=4), mel_bands=F, num_codes=500, num_tokens=50
    )
    for weight, std in (
        (model.code_embedding.weight, 0.02), (model.text_positions.weight, 0.02),
        (model.code_head.weight, 0.02), (model.stack.layers[3].attention.qkv.weight, 0.02),
        (model.stack.layers[3].attention.out.weight, 0.02 / 4),
        (model.stack.layers[3].down.weight, 0.02 / 4),
    ):  # fmt: skip
        assert weight.std().item() == pytest.approx(std, rel=0.05)
    assert model.code_head.weight is not model.code_embedding.weight


def test_settings_that_make_no_network_are_refused():
    with pytest.raises(ValueError, match="dim = 100 must be a multiple of heads = 16"):
        VoiceConfig(dim=100)
    with pytest.raises(ValueError, match="dim = 36 must be a multiple of 8"):
        VoiceConfig(dim=36, heads=4)
