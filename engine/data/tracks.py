"""Folders of tracks on disk: a folder for each track, an audio file for each stem. Free of torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from engine.config.data import StemsData
from engine.config.problems import Problem
from engine.data.audio_files import AudioInfo, DataError, check_folder, is_audio_name, probe

Track = dict[str, AudioInfo]


@dataclass(frozen=True, slots=True)
class TrackFiles:
    """The audio files of one track; `path` names the track."""

    path: Path
    paths: tuple[Path, ...]


def file_names(data: StemsData) -> tuple[str, ...]:
    """Return the files that are read of each track: targets, then others or the mixture."""
    return (*data.targets, data.mixture) if data.mixture else (*data.targets, *data.others)


def scan_tracks(folder: Path, names: tuple[str, ...], *, setting: str) -> list[Track]:
    """Find the files of every track, in the order of the folders' names.

    Raises:
        DataError: with everything that is wrong with any track.
    """
    check_folder(folder, setting=setting)
    found = find_tracks(folder)
    if not found:
        expected = ", ".join(f"<track>/{name}.flac" for name in names)
        message = f"no track folders in {folder}; expected {expected} (or .wav, .ogg, ...)"
        raise DataError([Problem(setting, message)])
    tracks: list[Track] = []
    problems: list[Problem] = []
    for files in found:
        track, wrong = open_track(files, names)
        tracks.append(track)
        problems.extend(Problem(setting, message) for message in wrong)
    if problems:
        raise DataError(problems)
    return tracks


def find_tracks(folder: Path) -> list[TrackFiles]:
    """Return the tracks of a folder in the order of their names, whatever files they have."""
    paths = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    return [
        TrackFiles(p, tuple(sorted(f for f in p.iterdir() if is_audio_name(f.name)))) for p in paths
    ]


def open_track(files: TrackFiles, names: tuple[str, ...]) -> tuple[Track, list[str]]:
    """Probe the stems of a track; what is wrong with it is told beside what could be read."""
    track: Track = {}
    problems: list[str] = []
    for name in names:
        found = [file for file in files.paths if file.stem == name]
        if len(found) == 1:
            try:
                track[name] = probe(found[0])
            except DataError as error:
                problems.extend(problem.message for problem in error.problems)
        elif found:
            problems.append(
                f"{files.path}: stem {name!r} is there {len(found)} times: {_list(found)}"
            )
        else:
            have = _list(files.paths) or "no audio files"
            problems.append(f"{files.path}: no stem {name!r}, found {have}")
    return track, problems or _unequal(files.path, track)


def _unequal(path: Path, track: Track) -> list[str]:
    found = [
        f"{info.path.name} {info.frames} samples at {info.rate_hz} Hz" for info in track.values()
    ]
    if len({(info.frames, info.rate_hz) for info in track.values()}) == 1:
        return []
    return [
        f"{path}: stems differ in length or rate: {', '.join(found)}; cut them to equal lengths"
    ]


def _list(files: Iterable[Path]) -> str:
    return ", ".join(file.name for file in files)
