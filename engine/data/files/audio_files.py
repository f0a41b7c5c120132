"""Audio files on disk: finding, probing and reading parts of them.

Owns the messages about data folders; how a file is opened is `engine.data.files.opening`. All problems are reported
together, with the setting that names the folder. Independent of tasks, resampling and torch.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from engine.config.errors import DataError, Problem, counted
from engine.data.files import media
from engine.data.files.opening import Unreadable, measure, read
from models.folders import NoAnswer, Pulse, Walk, answered, is_never_data, kind_of, walk

_MOST_NOTES = 5

_LOSSLESS = {
    ".wav",
    ".flac",
    ".aif",
    ".aiff",
    ".aifc",
    ".au",
    ".caf",
    ".w64",
    ".rf64",
    ".wave",
    ".bwf",
    ".snd",
    ".sph",
    ".nist",
    ".voc",
}
EXTENSIONS = frozenset(_LOSSLESS | {".ogg", ".oga", ".opus", ".mp3", ".mp2"})
# Audio that libsndfile can't read: counted and named where nothing else does, so that nobody takes it for used.
UNREAD = media.EXTENSIONS
_EVERY = EXTENSIONS | UNREAD


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """An audio file: `frames` samples in each of `channels` at `rate_hz`; `note`: what is odd about it."""

    path: Path
    frames: int
    rate_hz: int
    channels: int
    note: str = field(default="", compare=False)

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.frames / self.rate_hz


def probe(path: Path) -> AudioInfo:
    """Find out what an audio file holds: its header, checked against what is there.

    Raises:
        DataError: when the file is missing, is not audio, is truncated, or contains no samples.
    """
    try:
        found = measure(path)
    except Unreadable as error:
        raise DataError([Problem("", f"{path}: {error}")]) from None
    if found.frames <= 0:
        raise DataError([Problem("", f"{path}: contains no samples; remove it or record it again")])
    return AudioInfo(
        path, found.frames, rate_hz=found.rate_hz, channels=found.channels, note=found.note
    )


def scan_folder(
    path: Path, *, setting: str, header_of: Callable[[Path], AudioInfo] = probe
) -> list[AudioInfo]:
    """Probe every audio file below a folder, in the order of their paths (`models.folders`).

    Args:
        path: the folder.
        setting: the setting that names it.
        header_of: how a file is probed, for example by `engine.data.files.headers`.

    Raises:
        DataError: when the folder is missing or has no audio, or for everything in it that can't be
            read, files and folders, at once.
    """
    check_folder(path, setting=setting)
    found = walk(path)
    files = found.named(is_audio_name)
    if not files and not found.problems:
        extensions = ", ".join(sorted(EXTENSIONS))
        message = f"no audio files in {path}; expected files ending in {extensions}"
        if left_out := unread_clause(found):
            message = f"no usable audio files in {path}: {left_out}"
        raise DataError([Problem(setting, message)])
    return probe_all(files, setting=setting, header_of=header_of, problems=found.problems)


def check_folder(path: Path, *, setting: str) -> None:
    """Raise an error for a path that is not a folder.

    Raises:
        DataError: naming the setting, the path and what it is instead.
    """
    try:
        kind = kind_of(path)
    except NoAnswer as error:
        raise DataError([Problem(setting, str(error))]) from None
    if kind != "folder":
        problem = "is a file, not a folder" if kind else "does not exist"
        hint = f"; set the folder with --set {setting}=PATH" if setting else ""
        raise DataError([Problem(setting, f"folder {path} {problem}{hint}")])


def check_answers(path: Path) -> None:
    """Raise an error for a path whose file system does not answer.

    Raises:
        DataError: with that.
    """
    try:
        kind_of(path)
    except NoAnswer as error:
        raise DataError([Problem("", str(error))]) from None


def probe_all(
    paths: Iterable[Path],
    *,
    setting: str,
    header_of: Callable[[Path], AudioInfo] = probe,
    problems: Iterable[str] = (),
) -> list[AudioInfo]:
    """Probe files and collect the problems of all of them.

    Args:
        paths: the files.
        setting: the key of the problems.
        header_of: how a file is probed.
        problems: what is wrong with where they were found, which is raised with the rest.

    Raises:
        DataError: with one problem for each unusable file, under the key `setting`.
    """
    infos, unusable = probe_each(paths, header_of=header_of)
    if messages := [*problems, *unusable]:
        raise DataError(Problem(setting, message) for message in messages)
    return infos


def probe_each(
    paths: Iterable[Path], *, header_of: Callable[[Path], AudioInfo] = probe
) -> tuple[list[AudioInfo], list[str]]:
    """Probe files; return the headers of those that can be used, and what is wrong with the others."""
    names = list(paths)
    infos: list[AudioInfo] = []
    problems: list[str] = []

    def probe_them(pulse: Pulse) -> None:
        for path in names:
            pulse.at(path)
            try:
                infos.append(header_of(path))
            except DataError as error:
                problems.extend(problem.message for problem in error.problems)

    if names:
        try:
            answered(probe_them, names[0])
        except NoAnswer as error:
            # The thread that is left behind may go on appending.
            return list(infos), [*problems, str(error)]
    return infos, problems


def check_ends(infos: Iterable[AudioInfo], *, setting: str) -> None:
    """Read the last sample of each file: a header does not reveal all damage.

    Raises:
        DataError: with one problem for each file that ends early, under the key `setting`.
    """
    problems: list[Problem] = []
    for info in infos:
        try:
            read_segment(info, info.frames - 1, frames=1)
        except DataError as error:
            problems.extend(Problem(setting, problem.message) for problem in error.problems)
    if problems:
        raise DataError(problems)


def read_segment(info: AudioInfo, start: int, *, frames: int) -> np.ndarray:
    """Read `frames` samples from `start` as float32 (C, T), at the file's own rate.

    Raises:
        DataError: when the file became unreadable, is shorter than its header says, or contains NaN.
    """
    assert 0 <= start <= start + frames <= info.frames, (start, frames, info)
    try:
        samples_CT = read(info.path, start, frames=frames)
    except Unreadable as error:
        raise DataError([Problem("", f"{info.path}: {error}")]) from None
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


def find_audio(root: Path) -> list[Path]:
    """Return the audio files below a folder, in the order of their paths; none for what is no folder.

    Raises:
        DataError: when a folder in it can't be read.
    """
    check_answers(root)
    if not root.is_dir():
        return []
    found = walk(root)
    if found.problems:
        raise DataError(Problem("", message) for message in found.problems)
    return found.named(is_audio_name)


def unread_clause(found: Walk) -> str:
    """Say how many files of a walk are audio in formats that can't be read; empty for none."""
    counts = Counter(path.suffix.lower() for path in found.named(is_unread_name))
    if not counts:
        return ""
    number = sum(counts.values())
    kinds = ", ".join(f"{count} {suffix}" for suffix, count in sorted(counts.items()))
    verb = "is" if number == 1 else "are"
    return (
        f"{number} audio file{'' if number == 1 else 's'} {verb} not used, in a format that can't be read "
        f"({kinds}); convert to FLAC, for example with `ffmpeg -i OLD NEW.flac`, or install PyAV ({media.HINT})"
    )


def not_used(found: Walk) -> list[str]:
    """Say what of a walk is not used although nothing is wrong with it: unread formats, links."""
    notes = found.notes[:_MOST_NOTES]
    more = len(found.notes) - len(notes)
    return [
        *filter(None, [unread_clause(found)]),
        *notes,
        *([f"{counted(more, 'more link')} not followed"] if more else []),
    ]


def is_unread_name(name: str) -> bool:
    """Return whether a file name is that of audio in a format that can't be read here."""
    return not media.is_installed() and os.path.splitext(name)[1].lower() in UNREAD  # noqa: PTH122 - for each of a million


def is_audio_name(name: str) -> bool:
    """Return whether a file name has an audio extension; never-data (`._voice.wav`) does not count."""
    known = _EVERY if media.is_installed() else EXTENSIONS
    return not is_never_data(name) and os.path.splitext(name)[1].lower() in known  # noqa: PTH122 - for each of a million
