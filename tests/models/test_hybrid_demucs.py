"""Claims about Hybrid Demucs behind the common interface."""

import pytest
import torch
from pydantic import ValidationError

from models.configs import HybridDemucsConfig
from models.registry import build_model

RESOLUTIONS = ["low", "medium", "high"]


def small(resolution="low"):
    return HybridDemucsConfig(resolution=resolution, features=8)


@pytest.mark.parametrize("resolution", RESOLUTIONS)
def test_any_length_in_same_length_out(resolution):
    model = build_model(small(resolution), channels=2, sources=3)
    for length in (1, 100, 4097):
        est = model(torch.randn(2, 2, length))
        assert est.shape == (2, 3, 2, length)
        assert est.isfinite().all()


@pytest.mark.parametrize("resolution", RESOLUTIONS)
def test_the_sizes_are_torchaudios(resolution):
    from torchaudio import models

    with torch.device("meta"):
        theirs = getattr(models, f"hdemucs_{resolution}")(["a", "b"]).state_dict()
        config = HybridDemucsConfig(resolution=resolution)
        ours = build_model(config, channels=2, sources=2).network.state_dict()
    assert {name: t.shape for name, t in ours.items()} == {n: t.shape for n, t in theirs.items()}


def test_the_numbers_are_torchaudios():
    from torchaudio.models import HDemucs

    theirs = HDemucs(["a", "b"], channels=8, nfft=1024, depth=5).eval()
    ours = build_model(small(), channels=2, sources=2).eval()
    ours.network.load_state_dict(theirs.state_dict())
    mix = torch.randn(1, 2, 4096)
    with torch.no_grad():
        assert torch.equal(ours(mix), theirs(mix))


def test_silence_gives_finite_gradients():
    model = build_model(small(), channels=1, sources=1)
    model(torch.zeros(1, 1, 3000)).square().sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_uneven_groups_are_refused():
    with pytest.raises(ValidationError, match="multiple of 8"):
        HybridDemucsConfig(features=12)
