"""Claims about the audio U-Net: its size, its interface, its start, that it learns."""

import copy

import pytest
import torch

from models.configs import AudioUNetConfig
from models.registry import build_model, count_parameters

NORMS = ["none", "weight", "group"]
PREDICTIONS = ["clean", "difference"]


def small(**settings):
    return AudioUNetConfig(**{"width": 4, "residual_units": 1, **settings})


def test_width_16_mono_has_the_references_three_million_parameters():
    model = build_model(AudioUNetConfig(width=16), channels=1, sources=1)
    assert count_parameters(model) == 2_995_091
    assert f"{count_parameters(model) / 1e6:.2f} M" == "3.00 M"


def test_parameters_by_hand():
    """Every convolution of a one-level network, written out."""
    config = AudioUNetConfig(width=4, strides=(2,), residual_units=1)
    stem = 7 * 4 + 4
    unit = (3 * 16 + 4) + (16 + 4) + (16 + 4)
    down, up = 4 * 8 * 4 + 8, 8 * 4 * 4 + 4
    middle = 2 * (7 * 64 + 8)
    skips = (16 + 4) + (64 + 8)
    head, direct = 7 * 4 + 1, 1 + 1
    expected = stem + 2 * unit + down + up + middle + skips + head + direct
    assert count_parameters(build_model(config, channels=1, sources=1)) == expected


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("length", [1, 2, 255, 256, 257, 511, 512, 1000])
def test_any_length_in_same_length_out(norm, prediction, length):
    model = build_model(small(norm=norm, prediction=prediction), channels=2, sources=3)
    est = model(torch.randn(2, 2, length))
    assert est.shape == (2, 3, 2, length)
    assert est.isfinite().all()


@pytest.mark.parametrize("strides", [(1,), (3,), (5, 3), (2, 2, 8, 8), (64,), (2,) * 8])
def test_any_strides(strides):
    model = build_model(small(strides=strides), channels=1, sources=1)
    for length in (1, model.hop - 1 or 1, model.hop, model.hop + 1):
        assert model(torch.randn(1, 1, length)).shape == (1, 1, 1, length)


def test_output_of_a_multiple_of_the_hop_is_not_affected_by_padding():
    """A longer signal that repeats its last sample is what padding makes of the shorter one."""
    torch.manual_seed(0)
    model = build_model(small(), channels=1, sources=1).eval()
    short = torch.randn(1, 1, 300)
    padded = torch.cat([short, short[..., -1:].expand(1, 1, 212)], dim=-1)
    torch.testing.assert_close(model(short), model(padded)[..., :300])


@pytest.mark.parametrize("norm", NORMS)
def test_fresh_difference_model_returns_nearly_its_input_for_each_source(norm):
    torch.manual_seed(0)
    model = build_model(AudioUNetConfig(norm=norm, width=8), channels=2, sources=2)
    mix = torch.randn(2, 2, 4096)
    error = (model(mix) - mix.unsqueeze(1)).square().mean()
    assert 0 < error < 0.01


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_every_parameter_of_a_fresh_model_gets_a_gradient(norm, prediction):
    model = build_model(small(norm=norm, prediction=prediction), channels=1, sources=2)
    model(torch.randn(2, 1, 2000)).sin().sum().backward()
    dead = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert dead == []


@pytest.mark.parametrize("norm", NORMS)
def test_items_of_a_batch_do_not_meet(norm):
    model = build_model(small(norm=norm), channels=1, sources=1).eval()
    mix = torch.randn(3, 1, 700)
    alone = torch.cat([model(item.unsqueeze(0)) for item in mix])
    torch.testing.assert_close(model(mix), alone, atol=1e-5, rtol=1e-4)


def test_difference_is_clean_plus_input_with_the_same_weights():
    torch.manual_seed(0)
    clean = build_model(small(prediction="clean"), channels=1, sources=2)
    difference = build_model(small(prediction="difference"), channels=1, sources=2)
    difference.load_state_dict(clean.state_dict())
    mix = torch.randn(2, 1, 500)
    torch.testing.assert_close(difference(mix), clean(mix) + mix.unsqueeze(1))


def test_one_seed_one_model():
    def build():
        torch.manual_seed(7)
        return build_model(small(), channels=1, sources=1).state_dict()

    first, second = build(), build()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("norm", NORMS)
def test_weights_survive_a_copy_and_a_state_dict(norm):
    model = build_model(small(norm=norm), channels=1, sources=1)
    other = build_model(small(norm=norm), channels=1, sources=1)
    other.load_state_dict(model.state_dict())
    mix = torch.randn(1, 1, 300)
    assert torch.equal(model(mix), other(mix))
    assert torch.equal(model(mix), copy.deepcopy(model)(mix))


@pytest.mark.parametrize("norm", NORMS)
def test_bf16_autocast_on_the_cpu(norm):
    model = build_model(small(norm=norm), channels=1, sources=1)
    with torch.autocast("cpu", torch.bfloat16):
        est = model(torch.randn(1, 1, 300))
    est.float().square().sum().backward()
    assert est.isfinite().all()


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("norm", NORMS)
def test_it_learns_to_halve_a_signal(norm, prediction):
    torch.manual_seed(0)
    config = small(norm=norm, prediction=prediction, strides=(2, 4))
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
