"""Rate conversion: exact lengths, no shift, and parts that equal the whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.config.errors import DataError
from engine.data.files.audio_files import probe
from engine.data.files.rates import check_rates, resampled_length
from engine.data.files.resampling import read_resampled, resample

RATES_HZ = [8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000]


@settings(max_examples=60, deadline=None)
@given(
    frames=st.integers(1, 3000), from_hz=st.sampled_from(RATES_HZ), to_hz=st.sampled_from(RATES_HZ)
)
def test_the_length_is_the_ceiling(frames: int, from_hz: int, to_hz: int) -> None:
    result = resample(np.zeros((2, frames), np.float32), from_hz, to_hz=to_hz)
    assert result.shape == (2, resampled_length(frames, from_hz, to_hz=to_hz))
    assert result.shape[1] == int(np.ceil(frames * to_hz / from_hz - 1e-9))


@pytest.mark.parametrize(
    ("from_hz", "to_hz"), [(8000, 48000), (48000, 8000), (44100, 48000), (48000, 22050)]
)
def test_a_tone_keeps_its_frequency_level_and_phase(from_hz: int, to_hz: int) -> None:
    tone = np.sin(2 * np.pi * 1000 * np.arange(from_hz) / from_hz)[None].astype(np.float32)
    expected = np.sin(2 * np.pi * 1000 * np.arange(to_hz) / to_hz)
    middle = slice(to_hz // 4, 3 * to_hz // 4)
    np.testing.assert_allclose(
        resample(tone, from_hz, to_hz=to_hz)[0, middle], expected[middle], atol=2e-3
    )


def test_what_lies_above_the_new_rate_is_removed() -> None:
    tone = np.sin(2 * np.pi * 5000 * np.arange(48000) / 48000)[None].astype(np.float32)
    assert np.abs(resample(tone, 48000, to_hz=8000)[0, 1000:-1000]).max() < 2e-3


def test_equal_rates_change_nothing() -> None:
    samples = np.random.default_rng(0).standard_normal((1, 100)).astype(np.float32)
    assert resample(samples, 8000, to_hz=8000) is samples


@pytest.mark.parametrize(
    ("file_hz", "rate_hz"), [(44100, 48000), (16000, 48000), (48000, 22050), (8000, 11025)]
)
def test_a_part_of_a_file_equals_the_part_of_the_whole(
    file_hz: int, rate_hz: int, tmp_path: Path, write_audio: Callable[..., np.ndarray]
) -> None:
    whole = resample(write_audio("a.wav", frames=20_000, rate_hz=file_hz), file_hz, to_hz=rate_hz)
    info = probe(tmp_path / "a.wav")
    length = whole.shape[1]
    for start, frames in [(0, 10), (0, length), (1, 777), (length // 2, 1234), (length - 5, 5)]:
        part = read_resampled(info, start, frames=frames, rate_hz=rate_hz)
        assert part.shape == (1, frames)
        np.testing.assert_allclose(part, whole[:, start : start + frames], atol=1e-6)


def test_the_result_does_not_depend_on_the_number_of_threads() -> None:
    samples = np.random.default_rng(0).standard_normal((2, 48_000)).astype(np.float32)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(resample(resample(samples, 48000, to_hz=22050), 22050, to_hz=48000))
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(results[0], results[1])


def test_rates_without_a_common_divisor_are_refused() -> None:
    check_rates(44100, 48000, setting="s")
    check_rates(11025, 48000, setting="s")
    with pytest.raises(
        DataError, match=r"data\.train: can't resample from 44101 to 48000 Hz.*only 1;"
    ):
        check_rates(44101, 48000, setting="data.train")
