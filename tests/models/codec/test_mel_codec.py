"""The network of the codec: shapes, codes in and out, and its settings."""

from __future__ import annotations

import pytest
import torch

from models.codec.mel_codec import MelCodec
from models.codec.settings import MelCodecConfig

SMALL = {"mel_bands": 12, "channels": [16, 24], "residual_blocks": 1, "codes": 9, "code_dim": 4}


def small(**settings) -> MelCodecConfig:
    values = {**SMALL, **settings}
    values |= {name: tuple(v) for name, v in values.items() if isinstance(v, list)}
    return MelCodecConfig(**values)


@pytest.mark.parametrize("quantiser", ["fsq", "vq"])
@pytest.mark.parametrize("strides", [(2, 2), (3, 1), (4, 2), (1, 1), (5, 2)])
def test_frames_come_back_from_their_codes(quantiser, strides):
    config = small(quantiser=quantiser, strides=strides)
    torch.manual_seed(0)
    codec = MelCodec(config).eval()
    codec.normalise_by(torch.full((12,), -4.0), torch.full((12,), 2.0))
    mel_BFL = -4 + 2 * torch.randn(3, 12, 6 * config.frames_per_code)
    output = codec(mel_BFL)
    index_BN = codec.encode(mel_BFL)
    assert index_BN.shape == (3, 6)
    assert index_BN.dtype == torch.int64
    assert 0 <= index_BN.min() <= index_BN.max() < config.num_codes == codec.num_codes
    assert torch.equal(index_BN, output.quantised.index_N)
    torch.testing.assert_close(codec.decode(index_BN), codec.to_mel(output.estimate_BFL))
    torch.testing.assert_close(codec.to_mel(output.target_BFL), mel_BFL)
    assert torch.equal(codec.vectors(mel_BFL), output.vectors_BND)


def test_an_item_has_the_same_codes_alone_and_among_others():
    torch.manual_seed(0)
    codec = MelCodec(small())
    mel_BFL = torch.randn(5, 12, 40)
    together = codec.encode(mel_BFL)
    alone = torch.cat([codec.encode(one_FL[None]) for one_FL in mel_BFL])
    assert (together != alone).float().mean() < 0.02


def test_every_parameter_has_a_gradient():
    for quantiser in ("fsq", "vq"):
        codec = MelCodec(small(quantiser=quantiser))
        output = codec(torch.randn(2, 12, 8))
        output.estimate_BFL.square().sum().backward()
        assert [n for n, p in codec.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize(
    ("rate_hz", "hop", "n_fft", "per_s"),
    [(8_000, 96, 512, 20.8), (16_000, 184, 1024, 21.7), (22_050, 256, 1024, 21.5), (48_000, 560, 2048, 21.4)],
)  # fmt: skip
def test_the_default_rate_of_codes_is_the_published_one(rate_hz, hop, n_fft, per_s):
    config = MelCodecConfig()
    assert (config.hop_at(rate_hz), config.n_fft_at(rate_hz)) == (hop, n_fft)
    assert rate_hz / config.samples_per_code(rate_hz) == pytest.approx(per_s, abs=0.05)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"strides": [2]}, "as many entries as each other"),
        ({"levels": [64, 64, 64]}, "262144 codes, and at most 65535"),
        ({"levels": [2, 5]}, "greater than or equal to 3"),
        ({"n_fft": 65}, "must be even"),
        ({"n_fft": 64, "hop": 40}, "at most half of n_fft"),
    ],
)
def test_settings_that_make_no_codec_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        small(**settings)
