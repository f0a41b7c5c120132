"""Copies of audio files at the model's rate and channels, in 16 bits, read by memory map.

Reading a segment is a copy in memory, without decoding and resampling. Owns the files: their names,
derived from the original (path and format, then size and modification time), so that a changed
original gets a new copy that replaces the old one; writing them to a temporary name and renaming, so
that runs can share a folder; their header, a float64 scale and an int64 number of frames. 16-bit
originals at the same rate are copied exactly.
"""

from __future__ import annotations

import json
import struct
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import IO

import numpy as np

from engine.config.errors import DataError, Problem
from engine.data.files.audio_files import AudioInfo

_HEADER = struct.Struct("<dq")
_STEPS = 32768
_MOST = (_STEPS - 1) / _STEPS  # the largest sample; the smallest is -1
_BLOCK = 2**20
_VERSION = 2
_ASIDE = ".new-"
# Writing one file never takes this long.
_ABANDONED_S = 24 * 3600.0

Read = Callable[[int, int], np.ndarray]


@dataclass(frozen=True, slots=True)
class AudioCopy:
    """A copy of `frames` samples in each of `channels`; a step of its integers is `scale` / 2^15."""

    path: Path
    frames: int
    channels: int
    scale: float

    def read(self, start: int, frames: int) -> np.ndarray:
        """Read float32 (channels, frames) from `start`.

        Raises:
            DataError: when the copy is gone.
        """
        try:
            samples_TC = _map(self.path, self.frames, channels=self.channels)[
                start : start + frames
            ]
        except (OSError, ValueError) as error:
            message = f"{self.path}: can't read the cached copy ({error}); start the run again"
            raise DataError([Problem("data.cache", message)]) from None
        samples_CT = np.empty(samples_TC.shape[::-1], np.float32)
        np.multiply(samples_TC.T, np.float32(self.scale / _STEPS), out=samples_CT)
        return samples_CT


def copy_of(
    info: AudioInfo, folder: Path, *, read: Read, frames: int, rate_hz: int, channels: int
) -> AudioCopy:
    """Return the copy of a file, creating it if necessary.

    Args:
        info: the original.
        folder: folder of the copies; created if it does not exist.
        read: reads float32 (channels, n) of the original as the model sees it, by start and n.
        frames: number of samples of the copy.
        rate_hz: sampling rate of the copy.
        channels: number of channels of the copy.

    Raises:
        DataError: when the original can't be read or the copy can't be written.
    """
    try:
        state = info.path.stat()
        original = _digest(_VERSION, str(info.path.resolve()), rate_hz, channels)
        path = folder / f"{original}-{_digest(state.st_size, state.st_mtime_ns)}.i16"
        if not _is_whole(path, frames, channels=channels):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            _write(path, read, frames=frames)
        with path.open("rb") as file:
            scale, _ = _HEADER.unpack(file.read(_HEADER.size))
    except OSError as error:
        message = f"{folder}: can't cache a copy of {info.path} ({error.strerror or error}); check disk space and permissions, or set data.cache = none"
        raise DataError([Problem("data.cache", message)]) from None
    return AudioCopy(path, frames, channels=channels, scale=scale)


def tidy_copies(folder: Path, copies: Iterable[AudioCopy]) -> None:
    """Remove outdated copies of the originals of `copies`, and temporary files of killed runs."""
    kept = {copy.path.name for copy in copies}
    originals = {name.partition("-")[0] for name in kept}
    for path in folder.iterdir():
        with suppress(FileNotFoundError):
            if path.name.startswith(_ASIDE):
                if time.time() - path.stat().st_mtime > _ABANDONED_S:
                    path.unlink()
            elif path.name not in kept and path.name.partition("-")[0] in originals:
                path.unlink()


def _digest(*about: str | int) -> str:
    return sha256(json.dumps(about).encode()).hexdigest()[:24]


def _is_whole(path: Path, frames: int, *, channels: int) -> bool:
    try:
        return path.stat().st_size == _HEADER.size + 2 * frames * channels
    except FileNotFoundError:
        return False


def _write(path: Path, read: Read, *, frames: int) -> None:
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=_ASIDE, delete=False) as file:
        try:
            peak = _write_samples(file, read, frames=frames, scale=1.0)
            if peak > _MOST:
                _write_samples(file, read, frames=frames, scale=peak / _MOST)
            file.flush()
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


def _write_samples(file: IO[bytes], read: Read, *, frames: int, scale: float) -> float:
    """Write header and samples from the start of the file; return the peak to be scaled to `_MOST`."""
    file.seek(0)
    file.write(_HEADER.pack(scale, frames))
    peak = 0.0
    for start in range(0, frames, _BLOCK):
        block_CT = read(start, min(_BLOCK, frames - start))
        peak = max(peak, float(block_CT.max()), -float(block_CT.min()) * _MOST)
        steps_CT = np.rint(block_CT * (_STEPS / scale)).clip(-_STEPS, _STEPS - 1)
        file.write(np.ascontiguousarray(steps_CT.T, dtype="<i2").tobytes())
    return peak


@lru_cache(maxsize=4096)
def _map(path: Path, frames: int, *, channels: int) -> np.ndarray:
    shape = (frames, channels)
    return np.memmap(path, dtype="<i2", mode="r", offset=_HEADER.size, shape=shape)
