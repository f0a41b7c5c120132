"""Claims about Conv-TasNet behind the common interface."""

import pytest
import torch
from pydantic import ValidationError

from models.configs import ConvTasNetConfig
from models.registry import build_model


def small(**settings):
    sizes = {"features": 16, "mask_features": 8, "mask_hidden": 8}
    return ConvTasNetConfig(**{**sizes, "mask_layers": 2, "mask_stacks": 1, **settings})


@pytest.mark.parametrize("kernel_size", [4, 5, 16, 17])
@pytest.mark.parametrize("mask_kernel_size", [3, 5, 9])
@pytest.mark.parametrize("length", [1, 7, 8, 9, 100])
def test_any_length_in_same_length_out(kernel_size, mask_kernel_size, length):
    config = small(kernel_size=kernel_size, mask_kernel_size=mask_kernel_size)
    est = build_model(config, channels=2, sources=3)(torch.randn(2, 2, length))
    assert est.shape == (2, 3, 2, length)
    assert est.isfinite().all()


def test_each_channel_is_processed_by_itself():
    model = build_model(small(), channels=2, sources=2)
    mix = torch.randn(3, 2, 200)
    left = model(mix[:, :1])
    torch.testing.assert_close(model(mix)[:, :, :1], left)


def test_the_numbers_are_torchaudios():
    from torchaudio.models import ConvTasNet

    theirs = ConvTasNet(2, 16, 16, 3, 8, 8, 2, 1)
    ours = build_model(small(), channels=1, sources=2)
    ours.network.load_state_dict(theirs.state_dict())
    mix = torch.randn(2, 1, 333)
    torch.testing.assert_close(ours(mix)[:, :, 0], theirs(mix))


def test_silence_gives_finite_gradients():
    model = build_model(small(), channels=1, sources=1)
    model(torch.zeros(1, 1, 300)).sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_even_mask_kernels_are_refused():
    with pytest.raises(ValidationError, match="must be odd"):
        small(mask_kernel_size=4)
