"""A file as a model sees it: at the model's rate, with the model's channels.

Owns the rule for channels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from os.path import relpath
from pathlib import Path

import numpy as np

from engine.batching.batch import Split
from engine.config.data import AudioData
from engine.data.files.audio_files import AudioInfo
from engine.data.files.cache import AudioCopy, copy_of, tidy_copies
from engine.data.files.rates import check_policy, resampled_length
from engine.data.files.resampling import read_resampled


@dataclass(frozen=True, slots=True)
class Source:
    """An audio file at `rate_hz` with `channels`; `length` counts samples at that rate.

    With a `copy`, the audio is read from there.
    """

    info: AudioInfo
    rate_hz: int
    channels: int
    copy: AudioCopy | None = None

    @property
    def length(self) -> int:
        """Length in samples at the model's rate."""
        return resampled_length(self.info.frames, self.info.rate_hz, to_hz=self.rate_hz)

    def read(self, start: int, frames: int) -> np.ndarray:
        """Read float32 (channels, frames) from `start`.

        Raises:
            DataError: when the file became unreadable.
        """
        if self.copy is not None:
            return self.copy.read(start, frames)
        return with_channels(
            read_resampled(self.info, start, frames=frames, rate_hz=self.rate_hz), self.channels
        )


def with_channels(samples_CT: np.ndarray, channels: int) -> np.ndarray:
    """Average all channels to one, or copy one to all; equal counts stay as they are."""
    if len(samples_CT) == channels:
        return samples_CT
    if channels == 1:
        return np.asarray(samples_CT.mean(axis=0, keepdims=True, dtype=np.float32))
    assert len(samples_CT) == 1, (samples_CT.shape, channels)
    return np.repeat(samples_CT, channels, axis=0)


def make_sources(
    infos: Sequence[AudioInfo], data: AudioData, *, setting: str, split: Split = "valid"
) -> list[Source]:
    """Check the files of one folder against `data.resample` and `data.channels`, and open them.

    For training with `data.cache`, copies are created here and read instead.

    Raises:
        DataError: for mixed or forbidden rates, rates that can't be converted, more than 2 channels.
    """
    check_policy(infos, data, setting=setting)
    sources = [Source(info, data.rate_hz, channels=data.channels) for info in infos]
    if data.cache is None or split == "valid":
        return sources
    copied = [_with_copy(source, data.cache) for source in sources]
    tidy_copies(data.cache, [source.copy for source in copied if source.copy is not None])
    return copied


def _with_copy(source: Source, folder: Path) -> Source:
    copy = copy_of(
        source.info,
        folder,
        read=source.read,
        frames=source.length,
        rate_hz=source.rate_hz,
        channels=source.channels,
    )
    return replace(source, copy=copy)


def manifest_of(folder: Path, infos: Iterable[AudioInfo]) -> str:
    """Return 16 hex digits over names (seen from `folder`), lengths, rates and channels."""
    lines = (
        f"{Path(relpath(info.path, folder)).as_posix()} {info.frames} {info.rate_hz} {info.channels}\n"
        for info in infos
    )
    return sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()[:16]
