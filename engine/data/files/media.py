"""Audio in containers that libsndfile can't open (.m4a, .aac, .wma, .webm, ...), by the optional package av (PyAV).

A file is decoded from its beginning, whatever part is asked for: these codecs carry state from packet to packet,
so a part is the same part of the whole file, bit for bit. Its length is what decoding gives, without the samples
that an encoder adds at its start and end, where the container says which those are. Free of torch.
"""

from __future__ import annotations

from collections.abc import Generator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

EXTENSIONS = frozenset(
    {".m4a", ".aac", ".wma", ".webm", ".mp4", ".m4b", ".mka", ".mkv", ".mov", ".amr", ".ape", ".wv"}
    | {".tta", ".mpc", ".ac3", ".dts", ".shn", ".dsf", ".dff", ".3gp"}
)
HINT = "pip install 'sepdash[media]'"
# Samples that a last packet may have beyond or below what the container says.
_SLACK = 8_192


class MediaError(Exception):
    """A file that can't be decoded; the message says why."""


class Media(NamedTuple):
    """What decoding a file gives: samples of each channel, rate, channels."""

    frames: int
    rate_hz: int
    channels: int


@cache
def is_installed() -> bool:
    """Return whether the package is there."""
    return find_spec("av") is not None


def missing() -> str:
    """Say what is needed that is not installed, and how to get it; empty if nothing."""
    return "" if is_installed() else f"the package av (PyAV), which is not installed: {HINT}"


def measure_media(path: Path) -> Media:
    """Decode a file and count.

    Raises:
        MediaError: when it has no audio, can't be decoded, or ends before its container says.
    """
    with MediaSound(path) as sound:
        total = 0
        while number := len(sound.read(2**16)):
            total += number
        if sound.declared is not None:
            if total < sound.declared - _SLACK:
                raise MediaError(
                    f"truncated, {sound.declared - total} of {sound.declared} samples are missing; copy or record "
                    "it again"
                )
            total = min(total, sound.declared)
        return Media(total, sound.rate_hz, channels=sound.channels)


class MediaSound:
    """The first audio stream of a file, decoded from its beginning on; use it in `with`.

    Attributes:
        declared: samples that its container says it has, where that is exact.
    """

    subtype = ""

    def __init__(self, path: Path) -> None:
        import av

        self._failures = (av.FFmpegError, ValueError, OSError)
        try:
            self._container = av.open(str(path), "r", metadata_errors="replace")
        except self._failures as error:
            raise MediaError(f"can't be read as audio ({_reason(error)})") from None
        streams = self._container.streams.audio
        if not streams:
            self._container.close()
            raise MediaError("has no audio in it; remove it or leave it out")
        stream = streams[0]
        self.rate_hz, self.channels = int(stream.rate), int(stream.channels)
        self.declared: int | None = None
        if "mov" in self._container.format.name and stream.duration and stream.time_base:
            self.declared = round(stream.duration * stream.time_base * self.rate_hz)
        self._parts = self._decoded(stream)
        self._rest_TC = np.zeros((0, self.channels), np.float32)

    def __enter__(self) -> MediaSound:
        return self

    def __exit__(self, *error: object) -> None:
        self._parts.close()
        self._container.close()

    def read(self, number: int, *, dtype: str = "float32", always_2d: bool = True) -> np.ndarray:
        """Return up to `number` more samples, float32 (T, C); fewer only at the end."""
        parts, have = [self._rest_TC], len(self._rest_TC)
        while have < number:
            part_TC = next(self._parts, None)
            if part_TC is None:
                break
            parts.append(part_TC)
            have += len(part_TC)
        samples_TC = np.concatenate(parts)
        self._rest_TC = samples_TC[number:]
        return samples_TC[:number]

    def _decoded(self, stream: Any) -> Generator[np.ndarray, None, None]:
        try:
            for frame in self._container.decode(stream):
                if (frame.sample_rate, len(frame.layout.channels)) != (self.rate_hz, self.channels):
                    raise MediaError(
                        "changes its sampling rate or channels; convert it to one of each"
                    )
                yield _floats(frame, self.channels)
        except self._failures as error:
            raise MediaError(
                f"can't be decoded to its end ({_reason(error)}); it is truncated or damaged: copy or record it again"
            ) from None


def _floats(frame: Any, channels: int) -> np.ndarray:
    """Return a frame as float32 (T, C); whole numbers reach from -1 to 1."""
    values = frame.to_ndarray()
    samples_TC = values.T if frame.format.is_planar else values.reshape(-1, channels)
    if samples_TC.dtype == np.uint8:
        return np.asarray((samples_TC.astype(np.float32) - 128) / 128, dtype=np.float32)
    if samples_TC.dtype.kind == "i":
        scale = np.float64(2.0 ** (8 * samples_TC.dtype.itemsize - 1))
        return np.asarray(samples_TC / scale, dtype=np.float32)
    return np.ascontiguousarray(samples_TC, dtype=np.float32)


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)
