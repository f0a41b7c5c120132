"""What is made alike before it is played."""

from __future__ import annotations

import io
import wave

import numpy as np
import pytest
import soundfile

from engine.audio.loudness import loudness
from engine.config.errors import DataError
from jobs.listening.audio import Stimulus, match, wav
from tests.jobs.listening.sounds import RATE_HZ


@pytest.fixture
def pair(tmp_path):
    """Return a function that writes two signals and returns their stimulus."""

    def write(a, b, *, rates=(RATE_HZ, RATE_HZ)) -> Stimulus:
        paths = [tmp_path / "a.wav", tmp_path / "b.wav"]
        for path, samples, rate_hz in zip(paths, (a, b), rates, strict=True):
            soundfile.write(path, samples, rate_hz, subtype="FLOAT")
        return Stimulus("song", *paths)

    return write


def noise(seconds: float, *, seed: int = 0, channels: int = 1) -> np.ndarray:
    shape = (int(seconds * RATE_HZ), channels)
    return 0.1 * np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("gain", [1e-3, 0.5, 300.0])
def test_loudness_and_length_are_equal_whatever_level_a_model_writes(pair, gain):
    made = match(pair(noise(2.0), gain * noise(2.3, seed=1)), excerpt_s=10)
    assert made.a_CT.shape == made.b_CT.shape == (1, 2 * RATE_HZ)
    levels = [loudness(x_CT, RATE_HZ) for x_CT in (made.a_CT, made.b_CT)]
    assert levels[0] == pytest.approx(levels[1], abs=0.05)
    assert levels[0] == pytest.approx(-23, abs=0.2)


def test_a_high_peak_lowers_both(pair):
    clicks = noise(1.0) * 1e-3
    clicks[4000] = 1.0
    made = match(pair(clicks, noise(1.0, seed=1)), excerpt_s=10)
    assert np.abs(made.a_CT).max() == pytest.approx(10 ** (-1 / 20))
    levels = [loudness(x_CT, RATE_HZ) for x_CT in (made.a_CT, made.b_CT)]
    assert levels[0] == pytest.approx(levels[1], abs=0.05)


def test_the_middle_is_played_and_both_stay_in_step(pair):
    long = noise(3.0)
    made = match(pair(long, 0.5 * long + 0.01 * noise(3.0, seed=2)), excerpt_s=1.0)
    assert made.a_CT.shape == (1, RATE_HZ)
    middle = slice(RATE_HZ + 200, 2 * RATE_HZ - 200)
    inside = made.a_CT[0, 200:-200]
    assert np.corrcoef(inside, long[middle, 0])[0, 1] > 0.999
    assert np.corrcoef(inside, made.b_CT[0, 200:-200])[0, 1] > 0.97


def test_mono_beside_stereo_gets_two_channels(pair):
    made = match(pair(noise(1.0), noise(1.0, seed=1, channels=2)), excerpt_s=10)
    assert made.a_CT.shape == made.b_CT.shape == (2, RATE_HZ)
    assert np.array_equal(made.a_CT[0], made.a_CT[1])


@pytest.mark.parametrize(
    ("a", "b", "rates", "problem"),
    [
        (noise(1), noise(1, seed=1), (8000, 16_000), "sampling rates differ (8000 and 16000 Hz)"),
        (noise(1), 0 * noise(1), (8000, 8000), "b.wav is silent"),
        (noise(1), noise(0.05), (8000, 8000), "shorter than 0.1 s"),
        (noise(1), noise(1, channels=3), (8000, 8000), "expected one or two channels, found 1 and 3"),
        (noise(1), 0.5 * noise(1), (8000, 8000), "both sides are the same audio"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_refused_with_the_reason(pair, a, b, rates, problem):
    with pytest.raises(DataError, match="song: ") as error:
        match(pair(a, b, rates=rates), excerpt_s=10)
    assert problem in str(error.value)


def test_wav_keeps_the_signal_and_its_size_tells_nothing(pair):
    made = match(pair(noise(1.0), 40 * noise(1.0, seed=1)), excerpt_s=10)
    files = [
        wav(x_CT, RATE_HZ, noise_key=(key,)) for x_CT in (made.a_CT, made.b_CT) for key in (1, 2)
    ]
    assert len({len(file) for file in files}) == 1
    assert len(set(files)) == 4
    with wave.open(io.BytesIO(files[0])) as file:
        assert (file.getsampwidth(), file.getframerate(), file.getnframes()) == (
            3,
            RATE_HZ,
            RATE_HZ,
        )
    samples_TC, _ = soundfile.read(io.BytesIO(files[0]), always_2d=True)
    assert np.abs(samples_TC.T - made.a_CT).max() < 3 / 2**23
