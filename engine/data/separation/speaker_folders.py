"""Folders of speakers on disk: a folder for each speaker, audio files below. Free of torch."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from engine.config.data import SpeakersData
from engine.config.errors import DataError, Problem
from engine.data.files.audio_files import AudioInfo, check_folder, is_audio_name, probe_all
from engine.data.files.headers import Headers
from models.folders import walk


def split_of(setting: str) -> Literal["train", "valid"]:
    """Return the split whose folder a setting names."""
    return "train" if setting == "data.train" else "valid"


def speaker_files(data: SpeakersData, folder: Path, setting: str) -> list[AudioInfo]:
    """Return the headers of all files of a folder that a run uses, speaker by speaker.

    Raises:
        DataError: as `scan_speakers` does.
    """
    return [info for _, info in scan_speakers(folder, data, split=split_of(setting))]


def scan_speakers(
    folder: Path, data: SpeakersData, *, split: Literal["train", "valid"]
) -> list[tuple[str, AudioInfo]]:
    """Find the files of a split, each with the name of its speaker, speakers in order.

    Raises:
        DataError: with everything that is wrong with any file, or for too few speakers.
    """
    setting = f"data.{split}"
    check_folder(folder, setting=setting)
    problems: list[str] = []
    speaker_of = find_speakers(folder, data, split=split, problems=problems)
    headers = Headers(folder)
    infos = probe_all(speaker_of, setting=setting, header_of=headers.header_of, problems=problems)
    headers.warn_if_stale()
    if problem := too_few(folder, set(speaker_of.values()), data=data, split=split):
        raise DataError([problem])
    return [(speaker_of[info.path], info) for info in infos]


def find_speakers(
    folder: Path,
    data: SpeakersData,
    *,
    split: Literal["train", "valid"],
    problems: list[str],
) -> dict[Path, str]:
    """Return the audio files of a split, in order, with the name of the speaker of each.

    A speaker is a folder directly in `folder`, with files at any depth. `problems` takes the
    folders that can't be read.
    """
    found = walk(folder)
    problems += found.problems
    level = len(folder.parts)
    return {
        path: path.parts[level]
        for path in found.named(is_audio_name)
        if len(path.parts) > level + 1 and belongs(path, data, split=split)
    }


def too_few(
    folder: Path, names: set[str], *, data: SpeakersData, split: Literal["train", "valid"]
) -> Problem | None:
    """Return the problem of a folder with fewer speakers than a mixture has."""
    if len(names) >= data.num_speakers:
        return None
    pattern = f" that {_rule(data, split)}" if data.held_out else ""
    message = (
        f"{folder}: mixtures need at least {data.num_speakers} speakers, found files{pattern} of "
        f"{len(names)} ({', '.join(sorted(names)) or 'none'}); expected <speaker>/<name>.flac"
    )
    return Problem(f"data.{split}", message)


def belongs(path: Path, data: SpeakersData, *, split: Literal["train", "valid"]) -> bool:
    """Return whether a file belongs to the split, according to `data.held_out`."""
    if not data.held_out:
        return True
    return fnmatchcase(path.name, data.held_out) == (split == "valid")


def _rule(data: SpeakersData, split: Literal["train", "valid"]) -> str:
    verb = "match" if split == "valid" else "do not match"
    return f"{verb} data.held_out = {data.held_out!r}"
