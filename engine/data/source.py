"""A file as a model sees it: at the model's rate, with the model's channels.

Owns the rule for channels and the resampling policy that a folder is held to.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np

from engine.config.data import AudioData
from engine.config.problems import Problem
from engine.data.audio_files import AudioInfo, DataError
from engine.data.resampling import check_rates, read_resampled, resampled_length


@dataclass(frozen=True, slots=True)
class Source:
    """An audio file at `rate_hz` with `channels`; `length` counts samples at that rate."""

    info: AudioInfo
    rate_hz: int
    channels: int

    @property
    def length(self) -> int:
        """Length in samples at the model's rate."""
        return resampled_length(self.info.frames, self.info.rate_hz, self.rate_hz)

    def read(self, start: int, frames: int) -> np.ndarray:
        """Read float32 (channels, frames) from `start`.

        Raises:
            DataError: when the file became unreadable.
        """
        return with_channels(read_resampled(self.info, start, frames, self.rate_hz), self.channels)


def with_channels(samples_CT: np.ndarray, channels: int) -> np.ndarray:
    """Average all channels to one, or copy one to all; equal counts stay as they are."""
    if len(samples_CT) == channels:
        return samples_CT
    if channels == 1:
        return np.asarray(samples_CT.mean(axis=0, keepdims=True, dtype=np.float32))
    assert len(samples_CT) == 1, (samples_CT.shape, channels)
    return np.repeat(samples_CT, channels, axis=0)


def make_sources(infos: Sequence[AudioInfo], data: AudioData, *, setting: str) -> list[Source]:
    """Hold the files of one folder to the policy of `data.resample`, and to the channels.

    Raises:
        DataError: for mixed or forbidden rates, rates that can't be converted, more than 2 channels.
    """
    problems = [*_rate_problems(infos, data, setting), *_channel_problems(infos, data, setting)]
    if problems:
        raise DataError(problems)
    return [Source(info, data.rate_hz, data.channels) for info in infos]


def manifest_of(folder: Path, infos: Iterable[AudioInfo]) -> str:
    """Return 16 hex digits over names (below `folder`), lengths, rates and channels."""
    lines = (
        f"{info.path.relative_to(folder).as_posix()} {info.frames} {info.rate_hz} {info.channels}\n"
        for info in infos
    )
    return sha256("".join(lines).encode()).hexdigest()[:16]


def _rate_problems(infos: Sequence[AudioInfo], data: AudioData, setting: str) -> list[Problem]:
    counts = Counter(info.rate_hz for info in infos)
    if data.resample != "any" and len(counts) > 1:
        message = (
            f"mixed sample rates: {_describe(infos, counts)}; expected one single rate; convert the "
            f"files, or set data.resample = 'any' to resample each to {data.rate_hz} Hz"
        )
        return [Problem(setting, message)]
    if data.resample == "never" and data.rate_hz not in counts:
        found = next(iter(counts))
        message = (
            f"the files have {found} Hz, but data.rate_hz is {data.rate_hz} and data.resample is "
            f"'never'; set data.rate_hz = {found}, or data.resample = 'uniform'"
        )
        return [Problem(setting, message)]
    problems: list[Problem] = []
    for rate in counts:
        try:
            check_rates(rate, data.rate_hz, setting=setting)
        except DataError as error:
            problems.extend(error.problems)
    return problems


def _describe(infos: Sequence[AudioInfo], counts: Counter[int]) -> str:
    parts = []
    for rate, number in counts.most_common():
        example = next(info.path for info in infos if info.rate_hz == rate)
        parts.append(f"{rate} Hz in {number} file{'s' if number > 1 else ''} (such as {example})")
    return ", ".join(parts)


def _channel_problems(infos: Sequence[AudioInfo], data: AudioData, setting: str) -> list[Problem]:
    if data.channels == 1:
        return []
    return [
        Problem(
            setting,
            f"{info.path}: has {info.channels} channels; expected mono or stereo for data.channels = "
            f"{data.channels}; mix it down, or set data.channels = 1",
        )
        for info in infos
        if info.channels > data.channels
    ]
