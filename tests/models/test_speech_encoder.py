"""Claims about fine-tuned encoders: padding changes no number, masks and frozen parts do what they say."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models.self_supervised.settings import WaveformEncoderSettings
from models.self_supervised.waveform_encoder import WaveformEncoder
from models.speech import Tuning
from models.speech_encoder import WaveformSpeechEncoder

TINY = {
    "conv_channels": (8, 8, 8), "conv_kernels": (10, 4, 4), "conv_strides": (10, 4, 4),
    "layers": 2, "dim": 16, "heads": 2, "ffn": 32, "pos_conv_kernel": 8, "pos_conv_groups": 2,
}  # fmt: skip


def encoder(norm="layer_norm", *, encoding_dim=None, **settings):
    torch.manual_seed(0)
    config = WaveformEncoderSettings(**{**TINY, "extractor_norm": norm, **settings})
    return WaveformSpeechEncoder(config, encoding_dim=encoding_dim).double().eval()


def waves(*lengths, scale=1.0):
    torch.manual_seed(1)
    return [scale * torch.randn(length, dtype=torch.float64) for length in lengths]


def batch(items, extra=0):
    padded = nn.utils.rnn.pad_sequence(items, batch_first=True)
    padded = nn.functional.pad(padded, (0, extra))
    return padded[..., None], torch.tensor([len(item) for item in items])


@pytest.mark.parametrize("norm", ["layer_norm", "group_norm"])
@pytest.mark.parametrize("first", [False, True])
def test_padding_changes_no_number(norm, first):
    model = encoder(norm, layer_norm_first=first)
    items = waves(4_000, 1_700, 401)
    together, lengths = model(*batch(items, extra=777))
    for row, item in enumerate(items):
        alone, (length,) = model(*batch([item]))
        assert lengths[row] == length == model.frames_of(len(item))
        torch.testing.assert_close(together[row, :length], alone[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("norm", ["layer_norm", "group_norm"])
def test_it_computes_what_the_pre_trained_encoder_does(norm):
    model = encoder(norm)
    plain = WaveformEncoder(model.settings).double().eval()
    weights = model.state_dict()
    del weights["mask_embedding"]
    plain.load_state_dict(weights)
    (wave,) = waves(3_000, scale=0.3)
    ours, _ = model(*batch([wave]))
    theirs, _ = plain(wave[None])
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_masked_frames_and_channels_are_replaced():
    model = encoder()
    feat, lengths = batch(waves(2_000, 1_600))
    frames = model.frames_of(2_000)
    time_mask = torch.zeros(2, frames, dtype=torch.bool)
    time_mask[0, 2:5] = True
    channel_mask = torch.zeros(2, 16, dtype=torch.bool)
    channel_mask[1, 3] = True
    seen = {}
    context = model.context

    def watched(x_BLD, frame_lengths_B=None, *, keep_layers=None):
        seen["x"] = x_BLD
        return context(x_BLD, frame_lengths_B, keep_layers=keep_layers)

    model.context = watched
    model(feat, lengths)
    plain = seen["x"]
    model(feat, lengths, tuning=Tuning(time_mask, channel_mask))
    expected = plain.clone()
    expected[0, 2:5] = model.mask_embedding
    expected[1, :, 3] = 0
    assert torch.equal(seen["x"], expected)


def test_frozen_parts_have_no_gradient_and_the_rest_has():
    model = encoder(encoding_dim=5)
    feat, lengths = batch(waves(2_000))

    def trained(tuning):
        model.zero_grad(set_to_none=True)
        model(feat, lengths, tuning=tuning)[0].sum().backward()
        return {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None}

    assert trained(Tuning()) == {"feature_extractor", "encoder", "output"}
    assert trained(Tuning(train_extractor=False)) == {"encoder", "output"}
    assert trained(Tuning(train_encoder=False)) == {"output"}


def test_audio_shorter_than_a_frame_has_one_and_stays_finite():
    model = encoder()
    out, lengths = model(*batch(waves(2_000, 50)))
    assert lengths.tolist() == [model.frames_of(2_000), 1]
    assert out.isfinite().all()
