"""Claims about the hybrid: its size, its interface, that it is two networks in series, that it learns."""

import pytest
import torch

from models.configs import HybridConfig
from models.registry import build_model, count_parameters

PREDICTIONS = ["clean", "difference"]


def small(**settings):
    sizes = {"width": 4, "residual_units": 1, "n_fft": 64, "hop_length": 16, "bins": "last:20"}
    return HybridConfig(**{**sizes, "strides": (2, 4), "spec_strides": (2, 2), **settings})


@pytest.mark.parametrize(
    ("width", "count", "shown"), [(8, 1_536_001, "1.54 M"), (16, 6_122_737, "6.12 M")]
)
def test_parameters_are_the_references(width, count, shown):
    """The reference has weight norm on every convolution."""
    model = build_model(HybridConfig(width=width, norm="weight"), channels=1, sources=1)
    assert count_parameters(model) == count
    assert f"{count_parameters(model) / 1e6:.2f} M" == shown


@pytest.mark.parametrize("copies", [1, 8])
@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("length", [1, 15, 17, 255, 1000])
def test_any_length_in_same_length_out(copies, prediction, length):
    config = small(intermediate_channels=copies, prediction=prediction)
    est = build_model(config, channels=2, sources=3)(torch.randn(2, 2, length))
    assert est.shape == (2, 3, 2, length)
    assert est.isfinite().all()


def test_with_one_waveform_between_it_is_one_network_after_the_other():
    model = build_model(small(prediction="difference"), channels=1, sources=1)
    mix = torch.randn(2, 1, 333)
    assert torch.equal(model(mix), model.audio(model.spec(mix)[:, 0]))


@pytest.mark.parametrize("copies", [1, 8])
@pytest.mark.parametrize("norm", ["none", "weight", "group"])
def test_fresh_difference_model_returns_nearly_its_input(copies, norm):
    torch.manual_seed(0)
    config = small(width=8, norm=norm, intermediate_channels=copies)
    model = build_model(config, channels=2, sources=2)
    mix = torch.randn(2, 2, 2048)
    error = (model(mix) - mix.unsqueeze(1)).square().mean()
    assert 0 < error < 0.01


@pytest.mark.parametrize("copies", [1, 8])
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_every_parameter_of_a_fresh_model_gets_a_gradient(copies, prediction):
    config = small(intermediate_channels=copies, prediction=prediction)
    model = build_model(config, channels=1, sources=2)
    model(torch.randn(2, 1, 500)).sin().sum().backward()
    dead = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert dead == []


@pytest.mark.parametrize("copies", [1, 8])
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_it_learns_to_halve_a_signal(copies, prediction):
    torch.manual_seed(0)
    config = small(intermediate_channels=copies, prediction=prediction)
    model = build_model(config, channels=1, sources=1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    mix = torch.randn(4, 1, 512)
    losses = []
    for _ in range(60):
        loss = (model(mix) - 0.5 * mix.unsqueeze(1)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


def test_it_is_deterministic_where_only_deterministic_kernels_are_allowed():
    torch.manual_seed(0)
    model = build_model(small(), channels=1, sources=1)
    mix = torch.randn(2, 1, 300)
    torch.use_deterministic_algorithms(True)
    try:
        gradients = [
            torch.autograd.grad(model(mix).square().sum(), list(model.parameters()))
            for _ in range(2)
        ]
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(first, second) for first, second in zip(*gradients, strict=True))
