"""Claims about the spectrogram U-Net: its size, the band it works on, any length, that it learns."""

import pytest
import torch
from pydantic import ValidationError

from models.configs import SpecUNetConfig
from models.registry import build_model, count_parameters

NORMS = ["none", "weight", "group"]
PREDICTIONS = ["clean", "difference"]


def small(**settings):
    sizes = {"width": 4, "residual_units": 1, "n_fft": 64, "hop_length": 16, "bins": "all"}
    return SpecUNetConfig(**{**sizes, "strides": (2, 2), **settings})


def silent(model):
    """Make a network put out zeros."""
    for layer in (model.head, model.direct):
        for parameter in layer.parameters():
            torch.nn.init.zeros_(parameter)
    return model


def test_parameters_by_hand():
    """Every convolution of a one-level network, written out."""
    stem = 49 * 2 * 4 + 4
    unit = (9 * 16 + 4) + (16 + 4) + (16 + 4)
    down, up = 16 * 4 * 8 + 8, 16 * 8 * 4 + 4
    middle = 2 * (49 * 64 + 8)
    skips = (16 + 4) + (64 + 8)
    head, direct = 49 * 4 * 2 + 2, 2 * 2 + 2
    expected = stem + 2 * unit + down + up + middle + skips + head + direct
    model = build_model(small(strides=(2,)), channels=1, sources=1)
    assert count_parameters(model) == expected


@pytest.mark.parametrize(
    ("bins", "band"), [("all", (0, 1201)), ("first:768", (0, 768)), ("last:1088", (113, 1201))]
)
def test_bands_of_the_reference(bins, band):
    assert SpecUNetConfig(bins=bins).band == band


@pytest.mark.parametrize("bins", ["all", "first:20", "last:21"])
@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("length", [1, 15, 16, 17, 63, 64, 240, 256, 1000])
def test_any_length_in_same_length_out(bins, prediction, length):
    model = build_model(small(bins=bins, prediction=prediction), channels=2, sources=3)
    est = model(torch.randn(2, 2, length))
    assert est.shape == (2, 3, 2, length)
    assert est.isfinite().all()


@pytest.mark.parametrize(("n_fft", "hop_length"), [(64, 32), (64, 7), (62, 20), (2400, 600)])
def test_a_network_without_output_passes_its_input_bit_by_bit(n_fft, hop_length):
    config = small(n_fft=n_fft, hop_length=hop_length)
    mix = torch.randn(2, 1, 777)
    assert torch.equal(silent(build_model(config, channels=1, sources=2))(mix)[:, 1], mix)


def test_low_band_passes_and_high_band_is_the_networks():
    """With an empty clean prediction the processed band is gone and the other one untouched."""
    config = small(bins="last:17", prediction="clean", n_fft=64)
    model = silent(build_model(config, channels=1, sources=1)).double()
    time = torch.arange(4096, dtype=torch.float64) / 64
    low, high = torch.sin(time * 2 * torch.pi * 6), torch.sin(time * 2 * torch.pi * 26)
    est = model((low + high).reshape(1, 1, -1))[0, 0, 0]
    inside = slice(128, -128)
    torch.testing.assert_close(est[inside], low[inside], atol=1e-5, rtol=0)


def test_equal_to_the_inverse_of_the_joined_spectrum():
    """The textbook way: transform, replace the band, transform back."""
    torch.manual_seed(0)
    config = small(bins="last:20", prediction="clean")
    model = build_model(config, channels=1, sources=1).double()
    mix = torch.randn(1, 1, 16 * 15, dtype=torch.float64)
    window = torch.hann_window(64, dtype=torch.float64)
    spectrum = torch.stft(mix[0], 64, 16, window=window, pad_mode="constant", return_complex=True)
    processed = model.run(torch.view_as_real(spectrum[0, 13:]).permute(2, 0, 1).unsqueeze(0))
    joined = spectrum.clone()
    joined[0, 13:] = torch.complex(processed[0, 0], processed[0, 1])
    expected = torch.istft(joined, 64, 16, window=window, length=240)
    torch.testing.assert_close(model(mix)[0, 0], expected, atol=1e-5, rtol=0)


def test_transform_and_inverse_are_exact_to_the_last_sample():
    model = build_model(small(hop_length=32), channels=2, sources=1).double()
    mix = torch.randn(3, 2, 501, dtype=torch.float64)
    spectrum = model._spectrum(mix)
    assert spectrum.shape == (3, 2, 33, 17)
    torch.testing.assert_close(model._signal(spectrum.unsqueeze(1), 501).squeeze(1), mix)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_every_parameter_of_a_fresh_model_gets_a_gradient(norm, prediction):
    model = build_model(small(norm=norm, prediction=prediction), channels=1, sources=2)
    model(torch.randn(2, 1, 500)).sin().sum().backward()
    dead = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert dead == []


@pytest.mark.parametrize("norm", NORMS)
def test_items_of_a_batch_do_not_meet(norm):
    model = build_model(small(norm=norm), channels=1, sources=1).eval()
    mix = torch.randn(3, 1, 300)
    alone = torch.cat([model(item.unsqueeze(0)) for item in mix])
    torch.testing.assert_close(model(mix), alone, atol=1e-5, rtol=1e-4)


def test_bf16_autocast_keeps_the_transform_in_float32():
    model = build_model(small(bins="last:20"), channels=1, sources=1)
    mix = torch.randn(1, 1, 300)
    with torch.autocast("cpu", torch.bfloat16):
        est = model(mix)
    assert est.dtype == torch.float32
    est.square().sum().backward()
    assert torch.equal(silent(model)(mix)[:, 0], mix)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_it_learns_to_halve_a_band(prediction):
    torch.manual_seed(0)
    config = small(prediction=prediction, bins="last:20")
    model = build_model(config, channels=1, sources=1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    mix = torch.randn(4, 1, 512)
    with torch.no_grad():
        spectrum = model._spectrum(mix)
        band = spectrum[..., 13:, :].unsqueeze(1)
        target = mix.unsqueeze(1) - 0.5 * model._signal(band, 512)
    losses = []
    for _ in range(60):
        loss = (model(mix) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"bins": "low:20"}, "first:N or last:N"),
        ({"bins": "last:0"}, "first:N or last:N"),
        ({"bins": "last:34"}, "n_fft = 64 has 33 bins"),
        ({"bins": "first:34"}, "n_fft = 64 has 33 bins"),
        ({"n_fft": 63}, "must be even"),
        ({"hop_length": 33}, "must be at most half of n_fft = 64"),
    ],
)
def test_impossible_transforms_are_refused(settings, words):
    with pytest.raises(ValidationError, match=words):
        small(**settings)
