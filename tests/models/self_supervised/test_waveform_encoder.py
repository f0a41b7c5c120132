"""Claims about the encoder of waveforms: torchaudio's numbers, blind to padding, layers kept by name."""

import pytest
import torch
from pydantic import ValidationError
from torchaudio.models import wav2vec2_base, wav2vec2_model

from models.registry import count_parameters
from models.self_supervised.features import GivesLayerFeatures, evaluation_mode
from models.self_supervised.settings import HubertConfig, WaveformEncoderSettings
from models.self_supervised.waveform_encoder import WaveformEncoder, scale_gradient

SMALL = {
    "conv_channels": (8, 8, 8, 8, 8, 12, 12), "layers": 3, "dim": 16, "heads": 2, "ffn": 24,
    "pos_conv_kernel": 6, "pos_conv_groups": 4, "feature_grad_scale": 0.5, "conv_bias": True,
}  # fmt: skip
NO_DROPOUT = {"dropout": 0.0, "attention_dropout": 0.0, "projection_dropout": 0.0}
BASE_LIKE = WaveformEncoderSettings(**SMALL)
LARGE_LIKE = WaveformEncoderSettings(**SMALL, extractor_norm="layer_norm", layer_norm_first=True)
BOTH = pytest.mark.parametrize("settings", [BASE_LIKE, LARGE_LIKE])


def small(settings):
    torch.manual_seed(0)
    return WaveformEncoder(settings)


def torchaudios(settings, encoder):
    """Return torchaudio's model with the weights of `encoder`."""
    s = settings
    model = wav2vec2_model(
        s.extractor_norm, list(zip(s.conv_channels, s.conv_kernels, s.conv_strides, strict=True)),
        s.conv_bias, s.dim, s.projection_dropout, s.pos_conv_kernel, s.pos_conv_groups, s.layers,
        s.heads, s.attention_dropout, s.ffn, s.activation_dropout, s.dropout, s.layer_norm_first,
        s.layer_drop, None,
    )  # fmt: skip
    model.load_state_dict(encoder.state_dict())
    return model.eval()


@BOTH
def test_every_layer_is_that_of_torchaudio(settings):
    encoder = small(settings)
    theirs = torchaudios(settings, encoder)
    wave = torch.randn(2, 4000)
    features = encoder.layer_features(wave)
    expected, _ = theirs.extract_features(wave)
    assert len(features) == encoder.num_layers + 1 == 4
    for ours, others in zip(features[1:], expected, strict=True):
        torch.testing.assert_close(ours, others, rtol=1e-5, atol=1e-5)
    assert features[0].shape == features[1].shape
    first, _ = theirs.encoder.transformer.layers[0](features[0])
    torch.testing.assert_close(first, features[1], rtol=1e-5, atol=1e-5)
    output, lengths = encoder.eval()(wave)
    torch.testing.assert_close(output, theirs(wave)[0], rtol=1e-5, atol=1e-5)
    assert lengths is None


def test_lengths_mean_what_they_mean_in_torchaudio():
    encoder = small(LARGE_LIKE).eval()
    theirs = torchaudios(LARGE_LIKE, encoder)
    wave, lengths = torch.randn(3, 4000), torch.tensor([4000, 2500, 399])
    output, frames = encoder(wave, lengths)
    expected, expected_frames = theirs(wave, lengths)
    assert frames.tolist() == expected_frames.tolist() == [12, 7, 0]
    for ours, others, count in zip(output, expected, frames, strict=True):
        torch.testing.assert_close(ours[:count], others[:count], rtol=1e-5, atol=1e-5)
    assert output.isfinite().all()


@pytest.mark.parametrize("fill", [0.0, 50.0])
def test_padding_changes_no_number_with_layer_norm(fill):
    encoder = small(LARGE_LIKE).eval()
    wave = torch.randn(1, 3000)
    alone = encoder.layer_features(wave)
    batch = torch.full((3, 5000), fill)
    batch[1:] = torch.randn(2, 5000)
    batch[0, :3000] = wave
    frames = encoder.frames_of(3000)
    together = encoder.layer_features(batch, torch.tensor([3000, 5000, 4100]))
    for one, many in zip(alone, together, strict=True):
        assert one.shape[1] == frames
        torch.testing.assert_close(many[:1, :frames], one, rtol=1e-5, atol=2e-6)


def test_padding_gets_no_gradient_and_gives_none_with_layer_norm():
    encoder = small(LARGE_LIKE)
    wave = torch.randn(2, 4000, requires_grad=True)
    output, frames = encoder(wave, torch.tensor([2000, 4000]))
    output[0, : frames[0]].square().sum().backward()
    assert wave.grad[0, 2000:].abs().max() == 0 == wave.grad[1].abs().max()
    assert wave.grad[0, :2000].abs().max() > 0


def test_group_norm_refuses_lengths():
    with pytest.raises(ValueError, match=r"group_norm.*waveforms of equal length"):
        small(BASE_LIKE).layer_features(torch.randn(2, 3000), torch.tensor([3000, 2000]))


@pytest.mark.parametrize("samples", [0, 399, 400, 719, 720, 16_000])
def test_frames_are_counted_without_running_the_network(samples):
    settings = WaveformEncoderSettings()
    assert (settings.hop, settings.receptive_field) == (320, 400)
    assert settings.frames_of(samples) == max(0, (samples - 400) // 320 + 1)
    if samples >= 400:
        assert small(BASE_LIKE).layer_features(torch.randn(1, samples))[0].shape[1] == (
            settings.frames_of(samples)
        )


def test_frame_k_sees_400_samples_from_320_k_on():
    encoder = small(LARGE_LIKE)
    wave = torch.randn(1, 3000, requires_grad=True)
    feat, _ = encoder.local_features(wave)
    feat[0, 4].square().sum().backward()
    seen = wave.grad[0].nonzero().flatten()
    assert (seen.min(), seen.max()) == (4 * 320, 4 * 320 + 399)


def test_layers_are_kept_by_name():
    encoder = small(WaveformEncoderSettings(**SMALL, **NO_DROPOUT)).eval()
    x = torch.randn(2, 9, 16)
    steps = list(encoder.layer_outputs(x, keep_layers=[True, False, True]))
    assert steps[2] is steps[1]
    layers = encoder.encoder.transformer.layers
    torch.testing.assert_close(steps[3], layers[2](layers[0](steps[0])[0])[0])
    encoder.train()
    kept = encoder.context(x, keep_layers=[False, True, False])
    kept.sum().backward()
    assert [layer.attention.k_proj.weight.grad is None for layer in layers] == [True, False, True]


def test_features_leave_the_mode_of_every_module_alone():
    encoder = small(BASE_LIKE).train()
    encoder.feature_extractor.eval()
    before = [module.training for module in encoder.modules()]
    first, second = (encoder.layer_features(torch.ones(1, 2000)) for _ in range(2))
    assert [module.training for module in encoder.modules()] == before
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not any(layer.requires_grad for layer in first)
    with pytest.raises(RuntimeError), evaluation_mode(encoder):
        raise RuntimeError
    assert [module.training for module in encoder.modules()] == before
    assert isinstance(encoder, GivesLayerFeatures)


@pytest.mark.parametrize("scale", [0.0, 0.1, 1.0])
def test_the_gradient_of_local_features_is_scaled_and_nothing_else(scale):
    x = torch.randn(5, requires_grad=True)
    y = scale_gradient(x * 2, scale)
    assert torch.equal(y, x * 2)
    if scale:
        y.sum().backward()
        torch.testing.assert_close(x.grad, torch.full((5,), 2 * scale))
    else:
        assert not y.requires_grad


def test_weights_start_as_published():
    torch.manual_seed(0)
    settings = WaveformEncoderSettings(
        conv_channels=(64,) * 7, dim=192, heads=4, layers=1, ffn=256, pos_conv_kernel=64
    )
    encoder = WaveformEncoder(settings)
    transformer = encoder.encoder.transformer
    position = transformer.pos_conv_embed.conv
    assert position.weight.std().item() == pytest.approx(2 / (64 * 192) ** 0.5, rel=0.05)
    assert position.bias.abs().max() == 0
    query = transformer.layers[0].attention.q_proj
    assert query.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert query.bias.abs().max() == 0
    second = encoder.feature_extractor.conv_layers[1].conv.weight
    assert second.std().item() == pytest.approx((2 / (64 * 3)) ** 0.5, rel=0.05)


def test_the_default_size_is_base():
    config = HubertConfig()
    with torch.device("meta"):
        ours, theirs = WaveformEncoder(config), wav2vec2_base()
    assert {name: w.shape for name, w in ours.state_dict().items()} == {
        name: w.shape for name, w in theirs.state_dict().items()
    }
    assert count_parameters(ours) == 94_370_944


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"conv_kernels": (10, 3)}, "conv_channels has 7, conv_kernels has 2"),
        ({"dim": 30, "heads": 4}, "dim = 30 must be a multiple of heads = 4"),
        ({"dim": 36, "heads": 4, "pos_conv_groups": 16}, "multiple of pos_conv_groups = 16"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(values, message):
    with pytest.raises(ValidationError, match=message):
        WaveformEncoderSettings(**values)
