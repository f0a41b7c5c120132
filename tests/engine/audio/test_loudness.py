"""Loudness against the recommendation, and against another implementation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torchaudio.functional import loudness as other_loudness

from engine.audio.loudness import loudness


@pytest.mark.parametrize("rate_hz", [16_000, 44_100, 48_000])
def test_a_sine_of_997_hz_is_as_loud_as_the_recommendation_says(rate_hz):
    # BS.1770-4, annex 1: 0 dBFS at 997 Hz on one front channel indicates -3.01 LKFS.
    sine_CT = np.sin(2 * np.pi * 997 * np.arange(3 * rate_hz) / rate_hz)[None]
    tolerance = 0.01 if rate_hz >= 44_100 else 0.05
    assert loudness(sine_CT, rate_hz) == pytest.approx(-3.01, abs=tolerance)
    assert loudness(np.repeat(sine_CT, 2, axis=0), rate_hz) == pytest.approx(0.0, abs=tolerance)


@pytest.mark.parametrize(("rate_hz", "tolerance"), [(8_000, 0.3), (16_000, 0.2), (48_000, 0.06)])
def test_torchaudio_agrees(rate_hz, tolerance):
    # torchaudio derives its filters in another way, which differs most near half of the rate.
    random = np.random.default_rng(1)
    envelope_T = np.repeat([1.0, 0.01, 0.3, 0.0001, 0.7], rate_hz)
    noise_CT = random.standard_normal((2, 5 * rate_hz)) * 0.1 * envelope_T
    expected = float(other_loudness(torch.from_numpy(noise_CT), rate_hz))
    assert loudness(noise_CT, rate_hz) == pytest.approx(expected, abs=tolerance)


def test_quiet_parts_do_not_count():
    random = np.random.default_rng(2)
    loud_CT = random.standard_normal((1, 96_000)) * 0.1
    padded_CT = np.concatenate([loud_CT, np.zeros((1, 480_000))], axis=1)
    assert loudness(padded_CT, 48_000) == pytest.approx(loudness(loud_CT, 48_000), abs=0.4)


@pytest.mark.parametrize("seconds", [0.05, 0.3, 2.0])
def test_twice_the_amplitude_is_six_decibels(seconds):
    noise_CT = np.random.default_rng(3).standard_normal((1, int(16_000 * seconds))) * 0.05
    difference = loudness(2 * noise_CT, 16_000) - loudness(noise_CT, 16_000)
    assert difference == pytest.approx(20 * math.log10(2), abs=0.01)


def test_silence_has_no_loudness():
    assert loudness(np.zeros((2, 48_000)), 48_000) == -math.inf
    assert loudness(np.zeros((1, 100)), 48_000) == -math.inf
