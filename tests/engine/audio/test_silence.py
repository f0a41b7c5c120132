"""Claims about silence: found at any level and noise, and speech never taken for it."""

from __future__ import annotations

import numpy as np
import pytest

from engine.audio.silence import levels_db, runs_of_sound, silence_limit_db, silent_ends_s

RATE_HZ = 16_000


def speech(level: float, noise: float, lead_s: float = 0.8, tail_s: float = 0.4) -> np.ndarray:
    """Bursts of noise whose loudness comes and goes as that of syllables, over a noise floor."""
    draw = np.random.default_rng(0)
    time = np.arange(3 * RATE_HZ) / RATE_HZ
    sound = level * draw.standard_normal(len(time)) * (0.15 + np.sin(2 * np.pi * 2 * time) ** 2)
    parts = np.concatenate(
        [np.zeros(round(lead_s * RATE_HZ)), sound, np.zeros(round(tail_s * RATE_HZ))]
    )
    return (parts + noise * draw.standard_normal(len(parts)))[None].astype(np.float32)


@pytest.mark.parametrize("level", [0.3, 0.03, 0.003])
@pytest.mark.parametrize("below_db", [200, 60, 45, 32, 22, 17])
def test_silent_ends_are_measured_at_any_level_and_noise(level: float, below_db: float) -> None:
    levels_L = levels_db(speech(level, level * 10 ** (-below_db / 20)), RATE_HZ)
    lead_s, tail_s = silent_ends_s(levels_L, silence_limit_db(levels_L))
    assert lead_s == pytest.approx(0.8, abs=0.03)
    assert tail_s == pytest.approx(0.4, abs=0.03)


def test_soft_speech_is_not_taken_for_steady_noise() -> None:
    """Loudness that moves between 0 and -20 dB all the time, without a pause."""
    draw = np.random.default_rng(0)
    time = np.arange(6 * RATE_HZ) / RATE_HZ
    loudness = 10 ** (-0.5 * (1 - np.cos(2 * np.pi * 3 * time)))
    levels_L = levels_db((0.1 * loudness * draw.standard_normal(len(time)))[None], RATE_HZ)
    limit_db = silence_limit_db(levels_L)
    assert runs_of_sound(levels_L, limit_db, min_pause=10).tolist() == [[0, 600]]


def test_speech_up_to_its_ends_has_none() -> None:
    levels_L = levels_db(speech(0.1, 1e-4, lead_s=0, tail_s=0), RATE_HZ)
    assert silent_ends_s(levels_L, silence_limit_db(levels_L)) == (0.0, 0.0)


def test_a_click_in_the_silence_is_no_speech() -> None:
    samples = speech(0.1, 1e-5)
    samples[0, 4_000:4_100] = 0.5
    levels_L = levels_db(samples, RATE_HZ)
    assert silent_ends_s(levels_L, silence_limit_db(levels_L))[0] == pytest.approx(0.8, abs=0.03)


def test_levels_are_those_of_a_sine_and_a_rest_counts() -> None:
    time = np.arange(RATE_HZ + 40) / RATE_HZ
    levels_L = levels_db(np.sin(2 * np.pi * 1_000 * time)[None], RATE_HZ)
    assert len(levels_L) == 101
    assert levels_L == pytest.approx(np.full(101, -3.01), abs=0.01)
    assert levels_db(np.zeros((2, 160)), RATE_HZ).tolist() == [-120.0]


def test_pauses_divide_and_shorter_gaps_do_not() -> None:
    levels_L = np.array([-90] * 5 + [-20] * 10 + [-90] * 4 + [-20] * 10 + [-90] * 9 + [-20] * 6)
    assert runs_of_sound(levels_L, -50, min_pause=5).tolist() == [[5, 29], [38, 44]]
    assert runs_of_sound(levels_L, -50, min_pause=4).tolist() == [[5, 15], [19, 29], [38, 44]]
    assert runs_of_sound(np.full(9, -90.0), -50, min_pause=1).tolist() == []
