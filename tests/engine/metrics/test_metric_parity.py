"""Our metrics beside torchmetrics and fast_bss_eval, to 1e-4 dB, and where we decided otherwise.

Decided: means are removed first, a silent reference has no value (NaN, left out and counted), and
values end at 100 dB either way, so that means stay finite.
"""

from __future__ import annotations

import fast_bss_eval
import pytest
import torch
from torchmetrics.functional.audio import (
    permutation_invariant_training,
    scale_invariant_signal_distortion_ratio,
    signal_noise_ratio,
)

from engine.metrics.signal import sdr, si_sdr


def signals(level_db: float, *, amplitude: float = 0.1) -> tuple[torch.Tensor, torch.Tensor]:
    """Return four estimates and references (4, T), noise at `level_db` below, in float64."""
    generator = torch.Generator().manual_seed(round(level_db))
    place = torch.arange(16_000, dtype=torch.float64)
    tones = torch.stack([torch.sin(place * pitch) for pitch in (0.01, 0.1, 0.35, 1.1)])
    ref = amplitude * (tones + 0.3 * torch.randn(4, 16_000, generator=generator, dtype=place.dtype))
    noise = torch.randn(4, 16_000, generator=generator, dtype=place.dtype)
    noise *= (ref.square().sum(-1, True) / noise.square().sum(-1, True)).sqrt()
    return ref + 10 ** (-level_db / 20) * noise, ref


LEVELS = pytest.mark.parametrize("level_db", [-20, -3, 0, 5, 15, 30, 60])


@LEVELS
def test_si_sdr_equals_torchmetrics(level_db):
    est, ref = signals(level_db)
    expected = scale_invariant_signal_distortion_ratio(est, ref, zero_mean=True)
    torch.testing.assert_close(si_sdr(est, ref), expected, atol=1e-4, rtol=0)


@LEVELS
def test_si_sdr_equals_fast_bss_eval(level_db):
    est, ref = signals(level_db)
    for one_est, one_ref in zip(est, ref, strict=True):
        expected = fast_bss_eval.si_sdr(one_ref[None], one_est[None], zero_mean=True)
        torch.testing.assert_close(si_sdr(one_est, one_ref), expected[0], atol=1e-4, rtol=0)


@LEVELS
def test_sdr_equals_the_signal_to_noise_ratio_of_torchmetrics(level_db):
    est, ref = signals(level_db)
    expected = signal_noise_ratio(est, ref, zero_mean=True)
    torch.testing.assert_close(sdr(est, ref), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("offset", [0.05, 1.0])
def test_an_offset_is_removed_as_zero_mean_does(offset):
    est, ref = signals(20)
    expected = scale_invariant_signal_distortion_ratio(est + offset, ref - offset, zero_mean=True)
    torch.testing.assert_close(si_sdr(est + offset, ref - offset), expected, atol=1e-4, rtol=0)
    kept = scale_invariant_signal_distortion_ratio(est + offset, ref, zero_mean=False)
    assert (si_sdr(est + offset, ref) - kept).min() > 5


def test_quiet_signals_keep_their_value_where_an_eps_takes_decibels():
    est, ref = signals(20, amplitude=1e-6)
    torch.testing.assert_close(si_sdr(est, ref), si_sdr(*signals(20)), atol=1e-4, rtol=0)


def test_float32_audio_is_judged_in_float64():
    est, ref = (signal.float() for signal in signals(60))
    expected = scale_invariant_signal_distortion_ratio(est.double(), ref.double(), zero_mean=True)
    torch.testing.assert_close(si_sdr(est, ref), expected, atol=1e-4, rtol=0)


def test_the_best_order_of_sources_equals_that_of_torchmetrics():
    """What permutation-invariant evaluation must find: the order in which our values add up to most."""
    est, ref = signals(10)
    shuffled = est[[2, 0, 3, 1]]
    level, order = permutation_invariant_training(
        shuffled[None], ref[None], scale_invariant_signal_distortion_ratio, zero_mean=True
    )
    assert order[0].tolist() == [1, 3, 0, 2]
    torch.testing.assert_close(
        si_sdr(shuffled[order[0]], ref).mean()[None], level, atol=1e-4, rtol=0
    )
