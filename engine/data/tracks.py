"""Folders of tracks on disk: a folder for each track, an audio file for each stem. Free of torch."""

from __future__ import annotations

from pathlib import Path

from engine.config.data import StemsData
from engine.config.problems import Problem
from engine.data.audio_files import AudioInfo, DataError, check_folder, is_audio_name, probe

Track = dict[str, AudioInfo]


def file_names(data: StemsData) -> tuple[str, ...]:
    """Return the files that are read of each track: targets, then others or the mixture."""
    return (*data.targets, data.mixture) if data.mixture else (*data.targets, *data.others)


def scan_tracks(folder: Path, names: tuple[str, ...], *, setting: str) -> list[Track]:
    """Find the files of every track, in the order of the folders' names.

    Raises:
        DataError: with everything that is wrong with any track.
    """
    check_folder(folder, setting=setting)
    paths = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not paths:
        expected = ", ".join(f"<track>/{name}.flac" for name in names)
        message = f"no track folders in {folder}; expected {expected} (or .wav, .ogg, ...)"
        raise DataError([Problem(setting, message)])
    tracks: list[Track] = []
    problems: list[Problem] = []
    for path in paths:
        try:
            tracks.append(_scan_track(path, names, setting=setting))
        except DataError as error:
            problems.extend(error.problems)
    if problems:
        raise DataError(problems)
    return tracks


def _scan_track(path: Path, names: tuple[str, ...], *, setting: str) -> Track:
    files = sorted(p for p in path.iterdir() if is_audio_name(p.name))
    track: Track = {}
    problems: list[str] = []
    for name in names:
        found = [file for file in files if file.stem == name]
        if len(found) == 1:
            try:
                track[name] = probe(found[0])
            except DataError as error:
                problems.extend(problem.message for problem in error.problems)
        elif found:
            problems.append(f"{path}: stem {name!r} is there {len(found)} times: {_list(found)}")
        else:
            problems.append(f"{path}: no stem {name!r}, found {_list(files) or 'no audio files'}")
    if not problems:
        problems = _unequal(path, track)
    if problems:
        raise DataError(Problem(setting, message) for message in problems)
    return track


def _unequal(path: Path, track: Track) -> list[str]:
    found = [
        f"{info.path.name} {info.frames} samples at {info.rate_hz} Hz" for info in track.values()
    ]
    if len({(info.frames, info.rate_hz) for info in track.values()}) == 1:
        return []
    return [
        f"{path}: stems differ in length or rate: {', '.join(found)}; cut them to equal lengths"
    ]


def _list(files: list[Path]) -> str:
    return ", ".join(file.name for file in files)
