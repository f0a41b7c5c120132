"""Claims about the metrics, with answers worked out by hand from orthogonal square waves."""

import math

import pytest
import torch

from engine.metrics.signal import (
    LIMIT_DB,
    log_spectral_distance,
    sdr,
    si_sdr,
)

REF = torch.tensor([1.0, -1.0, 1.0, -1.0] * 4)
NOISE = torch.tensor([1.0, 1.0, -1.0, -1.0] * 4)


def db(ratio):
    return 10 * math.log10(ratio)


@pytest.mark.parametrize("error", [1.0, 0.5, 0.1, 1e-3])
def test_orthogonal_noise_by_hand(error):
    level = si_sdr(REF + error * NOISE, REF)
    assert level.shape == ()
    assert level.item() == pytest.approx(db(1 / error**2), abs=1e-3)


def test_double_dot_product_formula_on_random_signals():
    """Le Roux et al. (2019), equations 3 and 4, written out in plain Python."""
    generator = torch.Generator().manual_seed(1)
    est = torch.randn(50, generator=generator, dtype=torch.float64)
    ref = est + 0.7 * torch.randn(50, generator=generator, dtype=torch.float64) + 0.3
    e = [value - sum(est.tolist()) / 50 for value in est.tolist()]
    r = [value - sum(ref.tolist()) / 50 for value in ref.tolist()]
    scale = sum(x * y for x, y in zip(e, r, strict=True)) / sum(y * y for y in r)
    target = sum((scale * y) ** 2 for y in r)
    distortion = sum((x - scale * y) ** 2 for x, y in zip(e, r, strict=True))
    assert si_sdr(est, ref).item() == pytest.approx(db(target / distortion), abs=1e-9)


@pytest.mark.parametrize("gain", [-3.0, 1e-4, 1e-6, 1e4])
def test_neither_gain_nor_offset_of_the_estimate_matters(gain):
    est = gain * (REF + 0.1 * NOISE) + 0.5 * gain
    assert si_sdr(est, REF).item() == pytest.approx(20.0, abs=1e-3)


@pytest.mark.parametrize("gain", [1e-4, 1e-6])
def test_quiet_references_are_signals(gain):
    assert si_sdr(gain * (REF + 0.1 * NOISE), gain * REF).item() == pytest.approx(20.0, abs=1e-3)


def test_near_perfect_estimates_are_told_apart():
    """The form with three dot products is wrong here in float32."""
    generator = torch.Generator().manual_seed(0)
    ref = torch.randn(48_000, generator=generator)
    noise = torch.randn(48_000, generator=generator)
    for level_db in (60, 70, 80, 90):
        est = ref + 10 ** (-level_db / 20) * noise
        assert si_sdr(est, ref).item() == pytest.approx(level_db, abs=0.1)


def test_the_scale_has_ends_so_that_means_stay_finite():
    assert si_sdr(REF, REF).item() == LIMIT_DB
    assert si_sdr(torch.zeros_like(REF), REF).item() == -LIMIT_DB
    assert si_sdr(NOISE, REF).item() == -LIMIT_DB


@pytest.mark.parametrize("level", [0.0, 0.25, 1e-10])
def test_a_silent_or_constant_reference_has_no_si_sdr(level):
    assert si_sdr(REF, torch.full_like(REF, level)).isnan()


def test_each_signal_of_a_stack_is_judged_by_itself():
    est = torch.stack([REF + 0.1 * NOISE, REF, REF])
    ref = torch.stack([REF, torch.zeros_like(REF), REF])
    first, second, third = si_sdr(est, ref).tolist()
    assert first == pytest.approx(20.0, abs=1e-4)
    assert math.isnan(second)
    assert third == LIMIT_DB


def test_joint_channels_are_one_signal_laid_end_to_end():
    """Left is perfect, right carries noise at -10 dB: half the noise energy remains, 13 dB."""
    ref = torch.stack([REF, REF])
    est = torch.stack([REF, REF + 0.1**0.5 * NOISE])
    assert si_sdr(est, ref, joint_channels=True).item() == pytest.approx(db(2 / 0.1), abs=1e-4)


def test_joint_channels_count_their_balance_but_no_offset():
    """Right at half level: projection 3/4 of the reference, error 1/4 in each channel."""
    ref = torch.stack([REF, REF])
    est = torch.stack([REF + 5.0, 0.5 * REF - 2.0])
    expected = db((0.75**2 * 2) / (0.25**2 * 2))
    assert si_sdr(est, ref, joint_channels=True).item() == pytest.approx(expected, abs=1e-4)
    assert si_sdr(est, ref).tolist() == [LIMIT_DB, LIMIT_DB]


def test_joint_channels_drop_two_dimensions():
    est = torch.randn(3, 2, 2, 100)
    assert si_sdr(est, est, joint_channels=True).shape == (3, 2)
    assert si_sdr(est, est).shape == (3, 2, 2)


def test_no_gradient_and_half_precision_in():
    est = (REF + 0.5 * NOISE).bfloat16().requires_grad_()
    level = si_sdr(est, REF)
    assert not level.requires_grad
    assert level.item() == pytest.approx(db(4), abs=0.1)


@pytest.mark.parametrize("error", [1.0, 0.5, 0.1, 1e-3])
def test_sdr_of_orthogonal_noise_by_hand(error):
    assert sdr(REF + error * NOISE, REF).item() == pytest.approx(db(1 / error**2), abs=1e-3)


def test_sdr_counts_a_wrong_level_but_no_offset():
    """Half the level leaves half the reference as error: 6 dB; twice the level all of it: 0 dB."""
    assert sdr(0.5 * REF + 3.0, REF).item() == pytest.approx(db(4), abs=1e-6)
    assert sdr(2.0 * REF, REF + 1.0).item() == pytest.approx(0.0, abs=1e-6)
    assert sdr(torch.zeros_like(REF), REF).item() == 0.0


def test_sdr_has_the_limits_of_si_sdr():
    assert sdr(REF, REF).item() == LIMIT_DB
    assert sdr(1e6 * REF, REF).item() == -LIMIT_DB
    assert sdr(REF, torch.full_like(REF, 0.25)).isnan()
    both = torch.stack([REF, REF])
    assert sdr(torch.stack([REF, REF + NOISE]), both, joint_channels=True).item() == pytest.approx(
        db(2), abs=1e-6
    )


@pytest.mark.parametrize("gain", [0.5, 10.0, -2.0])
def test_log_spectral_distance_of_another_level_is_that_level(gain):
    generator = torch.Generator().manual_seed(0)
    ref = torch.randn(2, 8_000, generator=generator)
    expected = abs(20 * math.log10(abs(gain)))
    assert log_spectral_distance(gain * ref, ref).tolist() == pytest.approx(
        [expected] * 2, abs=1e-3
    )


def test_log_spectral_distance_takes_a_root_in_each_frame():
    """Frames are 0 dB or 20 dB apart: 10 in the mean, where a root over everything gave 14."""
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, 2_048 * 64, generator=generator)
    est = torch.cat([first, 0.1 * second])
    ref = torch.cat([first, second])
    assert log_spectral_distance(est, ref).item() == pytest.approx(10, abs=0.1)


def test_log_spectral_distance_of_silence():
    silence = torch.zeros(5_000)
    assert log_spectral_distance(silence, silence) == 0
    assert log_spectral_distance(1e-9 * torch.ones(5_000), silence) == 0
    assert 50 < log_spectral_distance(torch.randn(5_000), silence) < 200
    assert log_spectral_distance(torch.randn(3, 2, 100), torch.randn(3, 2, 100)).shape == (3, 2)
