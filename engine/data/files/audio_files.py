"""Audio files on disk: finding, probing and reading parts of them.

Owns all access to soundfile, and the messages about data folders. All problems are reported
together, with the setting that names the folder. Independent of tasks, resampling and torch.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from engine.config.errors import DataError, Problem

_LOSSLESS = {".wav", ".flac", ".aif", ".aiff", ".aifc", ".au", ".caf", ".w64", ".rf64"}
EXTENSIONS = frozenset(_LOSSLESS | {".ogg", ".oga", ".opus", ".mp3"})
_UNKNOWN_FRAMES = 2**48
# Programs that stream a WAV into a pipe don't know its length and write a size like this or larger.
_STREAMED_BYTES = 0x7FFF_0000


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """An audio file: `frames` samples in each of `channels` at `rate_hz`."""

    path: Path
    frames: int
    rate_hz: int
    channels: int

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.frames / self.rate_hz


def probe(path: Path) -> AudioInfo:
    """Read the header of an audio file.

    Raises:
        DataError: when the file is missing, is not audio, or contains no samples.
    """
    try:
        with soundfile.SoundFile(path) as file:
            info = AudioInfo(path, file.frames, rate_hz=file.samplerate, channels=file.channels)
    except (soundfile.LibsndfileError, OSError, RuntimeError) as error:
        raise DataError(
            [Problem("", f"{path}: can't be read as audio ({_reason(path, error)})")]
        ) from None
    if info.frames <= 0:
        raise DataError([Problem("", f"{path}: contains no samples; remove it or record it again")])
    if info.frames >= _UNKNOWN_FRAMES:
        raise DataError(
            [Problem("", f"{path}: its header does not give the length; encode it again")]
        )
    return info


def scan_folder(
    path: Path, *, setting: str, header_of: Callable[[Path], AudioInfo] = probe
) -> list[AudioInfo]:
    """Probe every audio file below a folder, in the order of their paths, except dot files.

    Args:
        path: the folder.
        setting: the setting that names it.
        header_of: how a file is probed, for example by `engine.data.files.headers`.

    Raises:
        DataError: when the folder is missing or has no audio, or for all unusable files at once.
    """
    check_folder(path, setting=setting)
    files = find_audio(path)
    if not files:
        extensions = ", ".join(sorted(EXTENSIONS))
        message = f"no audio files in {path}; expected files ending in {extensions}"
        raise DataError([Problem(setting, message)])
    return probe_all(files, setting=setting, header_of=header_of)


def check_folder(path: Path, *, setting: str) -> None:
    """Raise an error for a path that is not a folder.

    Raises:
        DataError: naming the setting, the path and what it is instead.
    """
    if not path.is_dir():
        problem = "is a file, not a folder" if path.exists() else "does not exist"
        hint = f"; set the folder with --set {setting}=PATH" if setting else ""
        raise DataError([Problem(setting, f"folder {path} {problem}{hint}")])


def probe_all(
    paths: Iterable[Path], *, setting: str, header_of: Callable[[Path], AudioInfo] = probe
) -> list[AudioInfo]:
    """Probe files and collect the problems of all of them.

    Raises:
        DataError: with one problem for each unusable file, under the key `setting`.
    """
    infos: list[AudioInfo] = []
    problems: list[Problem] = []
    for path in paths:
        try:
            infos.append(header_of(path))
        except DataError as error:
            problems.extend(Problem(setting, problem.message) for problem in error.problems)
    if problems:
        raise DataError(problems)
    return infos


def check_ends(infos: Iterable[AudioInfo], *, setting: str) -> None:
    """Read the last sample of each file: a header does not reveal that a copy is truncated.

    Raises:
        DataError: with one problem for each file that ends early, under the key `setting`.
    """
    problems: list[Problem] = []
    for info in infos:
        if bytes_missing(info.path):
            problems.append(Problem(setting, cut_off_message(info.path)))
            continue
        try:
            read_segment(info, info.frames - 1, frames=1)
        except DataError as error:
            problems.extend(Problem(setting, problem.message) for problem in error.problems)
    if problems:
        raise DataError(problems)


def bytes_missing(path: Path) -> int:
    """Return by how many bytes a WAV file is shorter than its header says; 0 for other formats.

    libsndfile itself reports the remaining length of a truncated WAV file.
    """
    with path.open("rb") as file:
        if not re.fullmatch(rb"RIFF....WAVE", file.read(12), flags=re.DOTALL):
            return 0
        while len(head := file.read(8)) == 8:
            size = int.from_bytes(head[4:], "little")
            if head[:4] == b"data":
                left = path.stat().st_size - file.tell()
                return max(0, size - left) if size < _STREAMED_BYTES else 0
            file.seek(size + size % 2, os.SEEK_CUR)
    return 0


def cut_off_message(path: Path) -> str:
    """Return the message for a truncated file."""
    return f"{path}: truncated, {bytes_missing(path)} bytes are missing; copy or record it again"


def read_segment(info: AudioInfo, start: int, *, frames: int) -> np.ndarray:
    """Read `frames` samples from `start` as float32 (C, T), at the file's own rate.

    Raises:
        DataError: when the file became unreadable, is shorter than its header says, or contains NaN.
    """
    assert 0 <= start <= start + frames <= info.frames, (start, frames, info)
    try:
        with soundfile.SoundFile(info.path) as file:
            file.seek(start)
            samples_CT = _read_floats(file, frames)
    except (soundfile.LibsndfileError, OSError, RuntimeError) as error:
        hint = "; it is truncated or damaged: copy or record it again" if info.path.exists() else ""
        message = f"{info.path}: can't be read ({_reason(info.path, error)}){hint}"
        raise DataError([Problem("", message)]) from None
    if samples_CT.shape != (info.channels, frames):
        message = (
            f"{info.path}: only {samples_CT.shape[1]} of {frames} samples could be read from sample {start}, "
            f"but its header gives {info.frames}; it is truncated or changed: copy or record it again"
        )
        raise DataError([Problem("", message)])
    if not np.isfinite(samples_CT).all():
        finite_T = np.isfinite(samples_CT).all(axis=0)
        place_s = (start + int(np.argmin(finite_T))) / info.rate_hz
        message = (
            f"{info.path}: contains non-finite values (NaN or infinity), the first at "
            f"{place_s:.2f} s; record or convert it again"
        )
        raise DataError([Problem("", message)])
    return samples_CT


def _read_floats(file: soundfile.SoundFile, frames: int) -> np.ndarray:
    """Read float32 (C, T). For 16 bits NumPy gives the same floats as libsndfile, twice as fast."""
    if file.subtype != "PCM_16":
        return np.ascontiguousarray(file.read(frames, dtype="float32", always_2d=True).T)
    samples_TC = file.read(frames, dtype="int16", always_2d=True)
    samples_CT = np.empty(samples_TC.shape[::-1], np.float32)
    np.multiply(samples_TC.T, np.float32(1 / 32_768), out=samples_CT)
    return samples_CT


def find_audio(root: Path) -> list[Path]:
    """Return the audio files below a folder, in the order of their paths, except dot files."""
    return sorted(_audio_files(root))


def _audio_files(root: Path) -> Iterator[Path]:
    seen: set[str] = set()
    for folder, folders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if is_audio_name(name):
                yield Path(folder, name)


def is_audio_name(name: str) -> bool:
    """Return whether a file name has an audio extension; dot files (`._voice.wav`) don't count."""
    return not name.startswith(".") and Path(name).suffix.lower() in EXTENSIONS


def _reason(path: Path, error: Exception) -> str:
    if not path.exists():
        return "it does not exist"
    if not path.stat().st_size:
        return "it is empty, 0 bytes"
    if isinstance(error, soundfile.LibsndfileError):
        return str(error.error_string).rstrip(".")
    return str(error)
