"""Every format and subtype that libsndfile writes, and ways in which such files are damaged."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

NUM_SAMPLES = 12_000
EXTENSIONS = {
    "AIFF": "aiff", "AU": "au", "AVR": "avr", "CAF": "caf", "FLAC": "flac", "HTK": "htk", "SVX": "svx",
    "MAT4": "mat", "MAT5": "mat", "MPC2K": "snd", "MP3": "mp3", "OGG": "ogg", "PAF": "paf", "PVF": "pvf",
    "RF64": "rf64", "SD2": "sd2", "SDS": "sds", "IRCAM": "sf", "VOC": "voc", "W64": "w64", "WAV": "wav",
    "NIST": "sph", "WAVEX": "wav", "WVE": "wve", "XI": "xi",
}  # fmt: skip
# Their headers give no length: what is there is all that can be known.
WITHOUT_LENGTH = {"PAF", "PVF", "IRCAM", "SD2", "XI"}
BOTH_ORDERS = {"WAV", "AIFF", "AU", "PAF", "IRCAM", "MAT4", "NIST"}


@dataclass(frozen=True)
class Format:
    major: str
    subtype: str
    endian: str | None = None
    channels: int = 1

    def __str__(self) -> str:
        return "-".join(filter(None, (self.major, self.subtype, self.endian)))


class Sound(soundfile.SoundFile):
    """Reads on without seeking, which not all decoders do exactly."""

    def seekable(self) -> bool:
        return False


def all_formats() -> list[Format]:
    """Return all but raw audio, which has no header, and what can be read only."""
    found = []
    for major in soundfile.available_formats():
        if major == "RAW":
            continue
        for subtype in soundfile.available_subtypes(major):
            orders = ("BIG", "LITTLE") if major in BOTH_ORDERS else ()
            for endian in (None, *orders):
                if soundfile.check_format(major, subtype, endian) and (
                    endian is None or subtype in ("PCM_16", "PCM_24", "FLOAT")
                ):
                    found.append(Format(major, subtype, endian))
    return found


def samples(channels: int = 1) -> np.ndarray:
    """Return the audio of all files, (T, channels)."""
    draw = np.random.default_rng(0)
    time = np.arange(NUM_SAMPLES)[:, None]
    tone = 0.3 * np.sin(time * 0.05) * np.sin(time * 0.0007)
    return (tone + 0.05 * draw.standard_normal((NUM_SAMPLES, channels))).astype(np.float32)


def write(path: Path, kind: Format) -> bool:
    """Write a file at a rate that the format takes; return whether libsndfile can."""
    for rate_hz in (16_000, 8_000):
        try:
            with soundfile.SoundFile(
                path, "w", rate_hz, kind.channels, format=kind.major, subtype=kind.subtype,
                endian=kind.endian,
            ) as file:  # fmt: skip
                file.write(samples(kind.channels))
        except soundfile.LibsndfileError:
            path.unlink(missing_ok=True)
            continue
        return True
    return False


def decoded(path: Path) -> np.ndarray:
    """Return all that libsndfile makes of an intact file in one go, (T, C)."""
    with Sound(str(path)) as file:
        return file.read(4 * NUM_SAMPLES, dtype="float32", always_2d=True)


def cut_and_junk(whole: bytes) -> Iterator[tuple[str, bytes]]:
    for share in (10, 50, 99):
        yield f"cut at {share} %", whole[: len(whole) * share // 100]
    yield "junk", whole + np.random.default_rng(1).integers(0, 256, 5_000, np.uint8).tobytes()
    yield "zeros", whole + bytes(5_000)


def wrong_lengths(kind: Format, whole: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield files whose length field says something else."""
    field = length_field(kind, whole)
    if field is None:
        return
    place, layout, unit = field
    size = struct.calcsize(layout)
    (true,) = struct.unpack(layout, whole[place : place + size])
    top = 256**size
    few = max(1, 36 // unit)
    for name, value in (
        ("zero", 0), ("ones", top - 1), ("wrapped", (true + top // 2 + 5) % top), ("half", true // 2),
        ("more", true + few), ("less", true - few),
    ):  # fmt: skip
        if layout.endswith("q"):
            value = value - top if value >= top // 2 else value
        yield f"length {name}", whole[:place] + struct.pack(layout, value) + whole[place + size :]


def length_field(kind: Format, whole: bytes) -> tuple[int, str, int] | None:
    """Return place, layout and unit in bytes of the field that gives the length."""
    order = ">" if kind.endian == "BIG" else "<"
    if kind.major in ("WAV", "WAVEX"):
        return whole.index(b"data") + 4, f"{order}I", 1
    if kind.major == "RF64":
        return whole.index(b"ds64") + 16, "<Q", 1
    if kind.major == "W64":
        return whole.index(b"data\xf3\xac") + 16, "<Q", 1
    if kind.major == "AIFF":
        return whole.index(b"SSND") + 4, ">I", 1
    if kind.major == "SVX":
        return whole.index(b"BODY") + 4, ">I", 1
    if kind.major == "AU":
        return 8, "<I" if whole[:4] == b"dns." else ">I", 1
    if kind.major == "CAF":
        return whole.index(b"data") + 4, ">q", 1
    if kind.major == "AVR":
        return 26, ">I", 2
    if kind.major == "WVE":
        return 18, ">I", 1
    if kind.major == "MPC2K":
        return 30, "<I", 2
    if kind.major == "HTK":
        return 0, ">I", 2
    if kind.major == "MP3" and re.search(b"Xing|Info", whole[:200]):
        return whole.index(b"Xing" if b"Xing" in whole[:200] else b"Info") + 8, ">I", 18
    return None
