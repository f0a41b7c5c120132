"""A small synthetic dataset for demonstrations and tests: voice-like, percussive and noise sources.

Deterministic by seed, byte for byte. numpy and soundfile only.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

STEMS = ("voice", "percussion", "noise")
_LEVELS = {"voice": 0.12, "percussion": 0.08, "noise": 0.04}
_FORMANTS_HZ = (
    (730.0, 1090.0, 2440.0),
    (270.0, 2290.0, 3010.0),
    (300.0, 870.0, 2240.0),
    (530.0, 1840.0, 2480.0),
    (570.0, 840.0, 2410.0),
)


def write_dataset(
    folder: Path,
    *,
    seed: int = 0,
    tracks: int = 8,
    valid_tracks: int | None = None,
    duration_s: float = 12.0,
    rate_hz: int = 8_000,
) -> None:
    """Write `train/` and `valid/`, each with `track-NNN/{voice,percussion,noise}.flac`.

    Args:
        folder: where to write; existing files of the same names are replaced.
        seed: equal seeds give equal bytes.
        tracks: number of training tracks.
        valid_tracks: number of validation tracks; by default a quarter as many, at least two.
        duration_s: length of a track in seconds.
        rate_hz: sampling rate.

    Raises:
        ValueError: when tracks, duration or rate are too small to hold anything.
    """
    if tracks < 1 or duration_s * rate_hz < 1 or rate_hz < 2_000:
        raise ValueError(
            f"tracks = {tracks}, duration_s = {duration_s}, rate_hz = {rate_hz}: expected at least one "
            "track, a duration above 0 s and at least 2000 Hz"
        )
    valid_tracks = valid_tracks or max(2, tracks // 4)
    for split_number, (split, count) in enumerate({"train": tracks, "valid": valid_tracks}.items()):
        for track in range(count):
            path = folder / split / f"track-{track:03d}"
            path.mkdir(parents=True, exist_ok=True)
            for number, stem in enumerate(STEMS):
                draw = np.random.default_rng([seed, split_number, track, number])
                samples = make_stem(
                    stem, draw, num_samples=round(duration_s * rate_hz), rate_hz=rate_hz
                )
                soundfile.write(path / f"{stem}.flac", samples, rate_hz, subtype="PCM_16")


def make_stem(
    stem: str, draw: np.random.Generator, *, num_samples: int, rate_hz: int
) -> np.ndarray:
    """Return one stem, float64 (T,), at its usual level with a little variation."""
    make = {"voice": _voice, "percussion": _percussion, "noise": _noise}[stem]
    samples = make(draw, num_samples, rate_hz)
    rms = float(np.sqrt(np.mean(samples**2))) or 1.0
    samples = samples * (_LEVELS[stem] * draw.uniform(0.8, 1.2) / rms)
    return np.asarray(np.clip(samples, -0.99, 0.99))


def _voice(draw: np.random.Generator, num_samples: int, rate_hz: int) -> np.ndarray:
    """Syllables of harmonics under a formant envelope, with glides, vibrato and pauses."""
    samples = np.zeros(num_samples)
    base_hz = draw.uniform(95.0, 240.0)
    start = int(draw.uniform(0.0, 0.1) * rate_hz)
    while start < num_samples:
        length = max(1, min(int(draw.uniform(0.12, 0.45) * rate_hz), num_samples - start))
        samples[start : start + length] += _syllable(draw, length, rate_hz=rate_hz, base_hz=base_hz)
        pause_s = draw.uniform(0.25, 0.5) if draw.random() < 0.2 else draw.uniform(0.01, 0.08)
        start += length + int(pause_s * rate_hz)
    return samples


def _syllable(
    draw: np.random.Generator, length: int, *, rate_hz: int, base_hz: float
) -> np.ndarray:
    time_T = np.arange(length) / rate_hz
    glide = np.linspace(draw.uniform(-2, 2), draw.uniform(-2, 2), length)
    vibrato = 0.25 * np.sin(
        2 * np.pi * draw.uniform(4.5, 6.5) * time_T + draw.uniform(0, 2 * np.pi)
    )
    pitch_T = base_hz * 2 ** ((glide + vibrato) / 12)
    phase_T = 2 * np.pi * np.cumsum(pitch_T) / rate_hz
    first, last = (np.array(_FORMANTS_HZ[i]) for i in draw.integers(len(_FORMANTS_HZ), size=2))
    mix_T = np.linspace(0, 1, length)
    voice_T = np.zeros(length)
    for harmonic in range(1, int(0.47 * rate_hz / pitch_T.max()) + 1):
        envelope_T = _formants(harmonic * pitch_T, first, last=last, mix_T=mix_T)
        voice_T += envelope_T / harmonic * np.sin(harmonic * phase_T)
    edge = np.minimum(np.minimum(time_T / 0.02, time_T[::-1] / 0.04), 1.0)
    return np.asarray(voice_T * np.sin(0.5 * np.pi * edge) ** 2 * draw.uniform(0.5, 1.0))


def _formants(
    frequency_T: np.ndarray, first: np.ndarray, *, last: np.ndarray, mix_T: np.ndarray
) -> np.ndarray:
    gain_T = np.full(len(frequency_T), 0.05)
    for low, high, width_hz in zip(first, last, (90.0, 120.0, 180.0), strict=True):
        centre_T = low + (high - low) * mix_T
        gain_T += 1.0 / (1.0 + ((frequency_T - centre_T) / width_hz) ** 2)
    return np.asarray(gain_T)


def _percussion(draw: np.random.Generator, num_samples: int, rate_hz: int) -> np.ndarray:
    """Drums on a grid: a low drum that falls in pitch, and short bursts of noise."""
    samples = np.zeros(num_samples)
    beat = int(60 / draw.uniform(90, 150) / 2 * rate_hz)
    kick_hz = draw.uniform(50, 75)
    for number, start in enumerate(range(0, num_samples, max(1, beat))):
        length = min(int(0.25 * rate_hz), num_samples - start)
        time_T = np.arange(length) / rate_hz
        if number % 4 == 0:
            phase_T = 2 * np.pi * (kick_hz * time_T + 4.0 * (1 - np.exp(-time_T / 0.03)))
            hit_T = np.sin(phase_T) * np.exp(-time_T / 0.08)
        elif draw.random() < 0.75:
            decay_s = 0.05 if number % 4 == 2 else 0.015
            hit_T = 0.6 * draw.standard_normal(length) * np.exp(-time_T / decay_s)
        else:
            continue
        samples[start : start + length] += hit_T * draw.uniform(0.6, 1.0)
    return samples


def _noise(draw: np.random.Generator, num_samples: int, rate_hz: int) -> np.ndarray:
    """Stationary noise with a falling spectrum, slowly swelling."""
    spectrum = np.fft.rfft(draw.standard_normal(num_samples))
    frequency = np.fft.rfftfreq(num_samples, 1 / rate_hz)
    shaped = np.fft.irfft(spectrum / np.sqrt(np.maximum(frequency, 50.0)), num_samples)
    time_T = np.arange(num_samples) / rate_hz
    swell_T = 1 + 0.4 * np.sin(
        2 * np.pi * draw.uniform(0.1, 0.4) * time_T + draw.uniform(0, 2 * np.pi)
    )
    return np.asarray(shaped * swell_T)
