"""Claims about the transducers: blind to padding, equal to torchaudio, streaming, counted."""

import pytest
import torch
from torchaudio.models import Conformer, emformer_rnnt_base

from models.layers.padding import zero_padding
from models.registry import count_parameters
from models.speech import BLANK
from models.speech_configs import ConformerRnntConfig, EmformerRnntConfig
from models.transducer import build_transducer, ceil_div, stack

SMALL = {
    "layers": 2, "dim": 16, "heads": 2, "ffn": 24, "encoding_dim": 12, "embedding": 8,
    "lstm_hidden": 10, "lstm_layers": 1, "dropout": 0.0, "lstm_dropout": 0.0,
}  # fmt: skip
CONFORMER = ConformerRnntConfig(**SMALL, kernel=5)
EMFORMER = EmformerRnntConfig(**SMALL, segment=8, left_context=3, right_context=4)
MEMORY = EmformerRnntConfig(**SMALL, segment=8, left_context=3, right_context=4, memory=2)
DEAF = EmformerRnntConfig(**SMALL, segment=8, left_context=0, right_context=0)
ALL = pytest.mark.parametrize("config", [CONFORMER, EMFORMER, MEMORY, DEAF])


def small(config, **arguments):
    torch.manual_seed(0)
    model = build_transducer(config, num_mels=5, num_tokens=7, **arguments)
    model.normalise_by(torch.randn(5), torch.rand(5) + 0.5)
    return model


@ALL
def test_an_utterance_is_encoded_the_same_in_any_batch(config):
    model = small(config).eval()
    feat = torch.randn(1, 21, 5)
    alone, _ = model.encode(feat, torch.tensor([21]))
    for others, padding, fill in ((1, 0, 0.0), (3, 30, 99.0), (2, 7, -5.0)):
        batch = torch.full((1 + others, 21 + padding, 5), fill)
        batch[1:] = torch.randn_like(batch[1:])
        batch[0, :21] = feat
        lengths = torch.tensor([21, *[21 + padding] * others])
        encoded, encoded_lengths = model.encode(batch, lengths)
        assert encoded_lengths[0] == 6
        torch.testing.assert_close(encoded[0, :6], alone[0, :6], rtol=1e-4, atol=2e-5)


@ALL
def test_padding_gets_no_gradient_and_gives_none(config):
    model = small(config)
    feat = torch.randn(2, 24, 5, requires_grad=True)
    encoded, lengths = model.encode(feat, torch.tensor([9, 24]))
    encoded[0, : lengths[0]].square().sum().backward()
    assert feat.grad[0, 9:].abs().max() == 0
    assert feat.grad[0, :9].abs().max() > 0
    assert feat.grad[1].abs().max() == 0


def test_without_padding_the_conformer_is_that_of_torchaudio():
    model = small(CONFORMER).double().eval()
    encoder = model.encoder
    feat = torch.randn(2, 20, 5, dtype=torch.float64)
    lengths = torch.tensor([20, 20])
    stacked = stack((feat - model.mel_mean) / model.mel_std, 4)
    theirs, _ = encoder.conformer(encoder.input_linear(stacked), ceil_div(lengths, 4))
    theirs = encoder.layer_norm(encoder.output_linear(theirs))
    ours, _ = model.encode(feat, lengths)
    # The group norm of ours is float64 here, as theirs.
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("config", [EMFORMER, MEMORY, DEAF])
@pytest.mark.parametrize("frames", [32, 21, 3])
def test_the_emformer_streams_what_it_encodes(config, frames):
    model = small(config).eval()
    feat = torch.randn(2, frames, 5)
    whole, _ = model.encode(feat, torch.tensor([frames] * 2))
    heard, parts = zip(*model.stream(feat), strict=True)
    assert heard == tuple(8 * n + config.right_context for n in range(1, len(parts) + 1))
    assert len(parts) == -(-frames // 8)
    valid = -(-frames // 4)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole[:, :valid], rtol=1e-4, atol=2e-5)


def test_a_conformer_does_not_stream():
    with pytest.raises(ValueError, match="can't stream; use an Emformer"):
        small(CONFORMER).stream(torch.randn(1, 9, 5))


@pytest.mark.parametrize("config", [EMFORMER, MEMORY])
def test_the_emformer_hears_no_further_than_its_look_ahead(config):
    model = small(config)
    feat = torch.randn(1, 64, 5, requires_grad=True)
    encoded, _ = model.encode(feat, torch.tensor([64]))
    encoded[0, :2].square().sum().backward()
    # The first segment is 8 frames, its look-ahead 4 more; later layers hear no more than that.
    assert feat.grad[0, 12:].abs().max() == 0
    assert feat.grad[0, 8:12].abs().max() > 0


@ALL
def test_predicting_token_by_token_equals_predicting_all(config):
    model = small(config).eval()
    tokens = torch.tensor([[3, 1, 4]])
    _, _, all_at_once = model(torch.randn(1, 9, 5), torch.tensor([9]), tokens)
    state, parts = None, []
    for token in [BLANK, 3, 1, 4]:
        part, state = model.predict(torch.tensor([[token]]), state)
        parts.append(part)
    torch.testing.assert_close(torch.cat(parts, dim=1), all_at_once)
    assert model.join(torch.randn(1, 3, 12), all_at_once).shape == (1, 3, 4, 7)


def test_no_tokens_at_all_is_a_text_too():
    model = small(CONFORMER).eval()
    tokens = torch.zeros(2, 0, dtype=torch.int64)
    _, _, pred = model(torch.randn(2, 4, 5), torch.tensor([4, 1]), tokens)
    assert pred.shape == (2, 1, 12)


@ALL
def test_one_frame_is_enough(config):
    encoded, lengths = small(config).eval().encode(torch.randn(1, 1, 5), torch.tensor([1]))
    assert lengths.tolist() == [1]
    assert encoded.isfinite().all()


def test_the_published_emformer_is_that_of_torchaudio():
    ours = build_transducer(EmformerRnntConfig(), num_mels=80, num_tokens=4097)
    assert count_parameters(ours) == count_parameters(emformer_rnnt_base(num_symbols=4097))


def test_the_published_conformer_counts_its_parts():
    model = build_transducer(ConformerRnntConfig(), num_mels=80, num_tokens=1024)
    conformer = Conformer(256, 4, 1024, 16, 31, use_group_norm=True)
    encoder = count_parameters(conformer) + (320 + 1) * 256 + (256 + 1) * 1024 + 2 * 1024
    lstm = 2 * 512 + 8 * 512 + 4 * 512 * 512
    predictor = 1024 * 256 + 2 * 256 + (4 * 512 * 256 + lstm) + (4 * 512 * 512 + lstm)
    predictor += (512 + 1) * 1024 + 2 * 1024
    assert count_parameters(model) == encoder + predictor + (1024 + 1) * 1024
    assert not any(isinstance(part, torch.nn.BatchNorm1d) for part in model.modules())


def test_what_transcribing_needs_travels_with_the_weights():
    model = small(CONFORMER, vocabulary=b'["a"]')
    state = model.state_dict()
    assert bytes(state["vocabulary"].tolist()) == b'["a"]'
    assert {"mel_mean", "mel_std"} <= set(state)
    assert "vocabulary" not in dict(model.named_parameters())


def test_stacking_pads_with_zeros():
    frames = torch.arange(1.0, 6.0).reshape(1, 5, 1)
    assert stack(frames, 2).tolist() == [[[1, 2], [3, 4], [5, 0]]]
    assert ceil_div(torch.tensor([1, 4, 5]), 4).tolist() == [1, 1, 2]
    filled = zero_padding(torch.full((2, 3, 1), float("nan")), torch.tensor([0, 0]))
    assert filled.abs().max() == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dim": 30, "heads": 4}, "dim = 30 must be a multiple of heads = 4"),
        ({"segment": 10}, "segment = 10 must be a multiple of stride = 4"),
        ({"right_context": 3}, "right_context = 3 must be a multiple of stride = 4"),
    ],
)
def test_impossible_emformers_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        EmformerRnntConfig(**settings)


def test_an_even_kernel_is_refused():
    with pytest.raises(ValueError, match="kernel = 4 must be odd"):
        ConformerRnntConfig(kernel=4)
