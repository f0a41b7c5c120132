"""Claims about the training objectives, with spectra and levels worked out independently."""

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from engine.config.losses import L1Loss, SiSdrLoss, SpectralLoss
from engine.metrics.signal import si_sdr
from engine.recipes.separation.losses import LOG_EPS, build_loss

KINDS = ["spectral", "si_sdr", "l1"]
REF = torch.tensor([1.0, -1.0, 1.0, -1.0] * 4).reshape(1, 1, 1, -1)
NOISE = torch.tensor([1.0, 1.0, -1.0, -1.0] * 4).reshape(1, 1, 1, -1)


def loss_of(kind="spectral", windows=(2048, 1024, 512, 256, 128, 64, 32), reduction="mean"):
    if kind == "spectral":
        return build_loss(SpectralLoss(windows=windows, reduction=reduction))
    return build_loss({"si_sdr": SiSdrLoss(), "l1": L1Loss()}[kind])


def magnitudes(signal, length):
    """Frame by frame with numpy: zeros half a window before and after, periodic Hann."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
    padded = np.pad(signal.astype(np.float64), length // 2)
    starts = range(0, len(signal) + 1, length // 2)
    return np.stack([np.abs(np.fft.rfft(window * padded[s : s + length])) for s in starts])


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("length", [1, 5, 8, 64, 101])
def test_spectral_loss_is_its_definition(reduction, length):
    rng = np.random.default_rng(0)
    est, ref = rng.standard_normal((2, length)).astype(np.float32)
    terms = []
    for window in (8, 32):
        e, r = magnitudes(est, window), magnitudes(ref, window)
        gap = np.abs(e - r) + np.abs(np.log(e + LOG_EPS) - np.log(r + LOG_EPS))
        terms.append(gap.mean() / 2 if reduction == "mean" else gap.sum())
    loss = loss_of(windows=(8, 32), reduction=reduction)
    found = loss(torch.from_numpy(est)[None, None, None], torch.from_numpy(ref)[None, None, None])
    assert found.item() == pytest.approx(sum(terms), rel=1e-3)


def test_spectral_mean_does_not_grow_with_the_segment_and_sum_does():
    generator = torch.Generator().manual_seed(0)
    est, ref = torch.randn(2, 1, 1, 1, 32_768, generator=generator)
    for reduction, growth in (("mean", 1.0), ("sum", 4.0)):
        loss = loss_of(reduction=reduction)
        ratio = loss(est, ref) / loss(est[..., :8192], ref[..., :8192])
        assert ratio.item() == pytest.approx(growth, rel=0.05)


def test_spectral_mean_is_the_mean_over_sources_and_channels():
    est, ref = torch.randn(2, 1, 2, 2, 500)
    loss = loss_of()
    parts = [
        loss(est[:, s, c, None, None], ref[:, s, c, None, None]) for s in (0, 1) for c in (0, 1)
    ]
    torch.testing.assert_close(loss(est, ref), torch.stack(parts).mean(dim=0))


@pytest.mark.parametrize("kind", KINDS)
def test_a_perfect_estimate_is_the_least_loss(kind):
    ref = torch.randn(2, 1, 1, 4000)
    loss = loss_of(kind)
    best = loss(ref, ref)
    expected = -60.0 if kind == "si_sdr" else 0.0
    torch.testing.assert_close(best, torch.full((2,), expected), atol=1e-3, rtol=0)
    assert (loss(ref + 0.01 * torch.randn_like(ref), ref) > best).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("length", [1, 2, 31, 3000])
@pytest.mark.parametrize(("est_level", "ref_level"), [(0, 0), (0, 1), (1, 0), (1, 1), (1e-9, 1e-4)])
def test_values_and_gradients_are_finite_at_silence_and_any_length(
    kind, length, est_level, ref_level
):
    est = (est_level * torch.randn(2, 2, 2, length)).requires_grad_()
    values = loss_of(kind)(est, ref_level * torch.randn(2, 2, 2, length))
    values.sum().backward()
    assert values.shape == (2,)
    assert values.isfinite().all()
    assert est.grad.isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
def test_each_item_has_its_own_value(kind):
    est, ref = torch.randn(2, 3, 2, 1, 600)
    loss = loss_of(kind)
    alone = torch.cat([loss(e[None], r[None]) for e, r in zip(est, ref, strict=True)])
    torch.testing.assert_close(loss(est, ref), alone)


@pytest.mark.parametrize("kind", KINDS)
def test_float32_under_autocast_and_from_bf16(kind):
    est, ref = torch.randn(2, 1, 1, 1, 3000)
    loss = loss_of(kind)
    with torch.autocast("cpu", torch.bfloat16):
        inside = loss(est, ref)
        halved = loss(est.bfloat16(), ref)
    assert inside.dtype == halved.dtype == torch.float32
    torch.testing.assert_close(inside, loss(est, ref))


def test_l1_by_hand():
    est = torch.tensor([[[[1.0, 2.0]]], [[[0.0, 0.0]]]])
    ref = torch.tensor([[[[0.0, 4.0]]], [[[0.0, -1.0]]]])
    assert loss_of("l1")(est, ref).tolist() == [1.5, 0.5]


@pytest.mark.parametrize("level_db", [0, 10, 20, 40])
def test_negative_si_sdr_by_hand(level_db):
    est = REF + 10 ** (-level_db / 20) * NOISE
    assert loss_of("si_sdr")(est, REF).item() == pytest.approx(-level_db, abs=0.05)


def test_negative_si_sdr_agrees_with_the_metric_on_stereo_sources():
    generator = torch.Generator().manual_seed(0)
    ref = torch.randn(2, 2, 2, 4000, generator=generator) + 0.5
    est = ref + torch.randn(2, 2, 2, 4000, generator=generator)
    expected = -si_sdr(est, ref, joint_channels=True).mean(dim=1).float()
    torch.testing.assert_close(loss_of("si_sdr")(est, ref), expected, atol=0.02, rtol=0)


def test_negative_si_sdr_is_bounded():
    loss = loss_of("si_sdr")
    assert loss(NOISE, REF).item() == pytest.approx(30.0, abs=1e-3)
    assert loss(REF, REF).item() == pytest.approx(-60.0, abs=1e-3)


def test_negative_si_sdr_leaves_silent_sources_out():
    est = torch.cat([REF + 0.1 * NOISE, REF], dim=1).requires_grad_()
    ref = torch.cat([REF, torch.zeros_like(REF)], dim=1)
    value = loss_of("si_sdr")(est, ref)
    value.sum().backward()
    assert value.item() == pytest.approx(-20.0 / 2, abs=0.05)
    assert est.grad[:, 0].any()
    assert not est.grad[:, 1].any()


def test_negative_si_sdr_ignores_the_level_of_the_estimate():
    loss = loss_of("si_sdr")
    est = REF + 0.1 * NOISE
    torch.testing.assert_close(loss(1e-4 * est, 1e-4 * REF), loss(est, REF), atol=1e-3, rtol=0)
    torch.testing.assert_close(loss(7 * est + 1, REF), loss(est, REF), atol=1e-3, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_finite_differences(kind):
    generator = torch.Generator().manual_seed(0)
    est, ref, way = torch.randn(3, 1, 1, 1, 64, generator=generator)
    loss = loss_of(kind, windows=(16,))
    est.requires_grad_()
    loss(est, ref).sum().backward()
    step = 1e-3
    ahead, behind = loss(est.detach() + step * way, ref), loss(est.detach() - step * way, ref)
    slope = ((ahead - behind) / (2 * step)).item()
    assert (est.grad * way).sum().item() == pytest.approx(slope, rel=0.02)


@pytest.mark.parametrize("windows", [(), (2,), (65_537,), (32, -1)])
def test_impossible_windows_are_refused(windows):
    with pytest.raises(ValidationError, match="windows"):
        SpectralLoss(windows=windows)


def test_the_reference_sum_has_the_references_size():
    """Two seconds at 48 kHz gave values of 1e5 to 1e6 in the reference notebook."""
    generator = torch.Generator().manual_seed(0)
    est, ref = 0.1 * torch.randn(2, 1, 1, 1, 96_000, generator=generator)
    assert 5 < math.log10(loss_of(reduction="sum")(est, ref).item()) < 6.5
