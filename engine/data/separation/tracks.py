"""Tracks on disk, one audio file per stem, in the layouts of `data.layout`. Free of torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engine.config.data import StemsData
from engine.config.errors import DataError, Problem
from engine.data.files.audio_files import AudioInfo, check_folder, is_audio_name, probe
from engine.data.files.headers import Headers
from models.folders import walk

Layout = Literal["tracks", "libri2mix", "voicebank_demand"]
Track = dict[str, AudioInfo]


@dataclass(frozen=True, slots=True)
class TrackFiles:
    """The audio files of one track, each with the name of its stem; `path` names the track."""

    path: Path
    stems: tuple[tuple[str, Path], ...]

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files."""
        return tuple(path for _, path in self.stems)


def file_names(data: StemsData) -> tuple[str, ...]:
    """Return the files that are read of each track: targets, then others or the mixture."""
    return (*data.targets, data.mixture) if data.mixture else (*data.targets, *data.others)


def stem_files(data: StemsData, folder: Path, setting: str) -> list[AudioInfo]:
    """Return the headers of all files of a folder that a run uses, stem by stem.

    Raises:
        DataError: with everything that is wrong with any track.
    """
    names = file_names(data)
    tracks = scan_tracks(folder, names, setting=setting, layout=data.layout)
    return [track[name] for track in tracks for name in names]


def first_stems(data: StemsData, folder: Path, setting: str) -> list[AudioInfo]:
    """Return the header of one file of each track, which gives the length of the track.

    Raises:
        DataError: with everything that is wrong with any track.
    """
    return stem_files(data, folder, setting)[:: len(file_names(data))]


def scan_tracks(
    folder: Path, names: tuple[str, ...], *, setting: str, layout: Layout = "tracks"
) -> list[Track]:
    """Find the files of every track, in the order of the folders' names.

    Raises:
        DataError: with everything that is wrong with any track.
    """
    check_folder(folder, setting=setting)
    unread: list[str] = []
    track_files = find_tracks(folder, layout, problems=unread)
    if not track_files and not unread:
        raise DataError([Problem(setting, no_tracks(folder, names, layout=layout))])
    tracks: list[Track] = []
    problems = [Problem(setting, message) for message in unread]
    headers = Headers(folder)
    for files in track_files:
        track, wrong = open_track(files, names, header_of=headers.header_of)
        tracks.append(track)
        problems.extend(Problem(setting, message) for message in wrong)
    headers.warn_if_stale()
    if problems:
        raise DataError(problems)
    return tracks


def no_tracks(folder: Path, names: tuple[str, ...], *, layout: Layout) -> str:
    """Return the message that a folder has no tracks, with the expected files."""
    patterns = {
        "tracks": "<track>/{}.flac",
        "libri2mix": "{}/<track>.wav",
        "voicebank_demand": "<track>.wav in folders named {}_*",
    }
    expected = ", ".join(patterns[layout].format(name) for name in names)
    return f"no tracks in {folder}; expected {expected} (or .wav, .ogg, ...)"


def find_tracks(
    folder: Path, layout: Layout = "tracks", *, problems: list[str]
) -> list[TrackFiles]:
    """Return the tracks of a folder in the order of their names, whatever files they have.

    Args:
        folder: the folder.
        layout: how the files of a track lie in it.
        problems: takes the folders that can't be read.
    """
    if layout == "voicebank_demand":
        if not folder.name.startswith("clean"):
            return []
        noisy = folder.parent / folder.name.replace("clean", "noisy", 1)
        stems = {}
        for stem, place in (("clean", folder), ("noisy", noisy)):
            stems[stem] = _audio_in(place, problems)
        return _by_name(folder, stems)
    found = walk(folder, depth=2)
    problems += found.problems
    audio = found.by_folder(is_audio_name)
    if layout == "libri2mix":
        return _by_name(folder, {path.name: audio.get(path, []) for path in found.own_folders})
    return tracks_in(found.own_folders, audio)


def tracks_in(folders: Iterable[Path], audio: Mapping[Path, Sequence[Path]]) -> list[TrackFiles]:
    """Return folders as tracks; `audio` are the files that lie in each."""
    return [
        TrackFiles(path, tuple((file.stem, file) for file in audio.get(path, ())))
        for path in folders
    ]


def _audio_in(folder: Path, problems: list[str]) -> list[Path]:
    if not folder.is_dir():
        return []
    found = walk(folder, depth=1)
    problems += found.problems
    return found.named(is_audio_name)


def _by_name(folder: Path, stems: Mapping[str, Iterable[Path]]) -> list[TrackFiles]:
    """Put files of one name in the folders of the stems together as a track."""
    tracks: dict[str, list[tuple[str, Path]]] = {}
    for stem, files in stems.items():
        for file in files:
            tracks.setdefault(file.stem, []).append((stem, file))
    return [TrackFiles(folder / name, tuple(tracks[name])) for name in sorted(tracks)]


def open_track(
    files: TrackFiles,
    names: tuple[str, ...],
    *,
    header_of: Callable[[Path], AudioInfo] = probe,
) -> tuple[Track, list[str]]:
    """Probe the stems of a track; return those that could be read, and the problems."""
    track: Track = {}
    problems: list[str] = []
    for name in names:
        paths = [file for stem, file in files.stems if stem == name]
        if len(paths) == 1:
            try:
                track[name] = header_of(paths[0])
            except DataError as error:
                problems.extend(problem.message for problem in error.problems)
        elif paths:
            problems.append(
                f"{files.path}: {len(paths)} files for stem {name!r}: {_list(files.path, paths)}; keep one"
            )
        else:
            have = _list(files.path, files.paths) or "no audio files"
            problems.append(f"{files.path}: stem {name!r} is missing, found {have}")
    return track, problems or _unequal(files.path, track)


def _unequal(path: Path, track: Track) -> list[str]:
    lengths = [
        f"{_list(path, [info.path])} {info.frames} samples at {info.rate_hz} Hz"
        for info in track.values()
    ]
    if len({(info.frames, info.rate_hz) for info in track.values()}) == 1:
        return []
    return [
        f"{path}: stems differ in length or sampling rate: {', '.join(lengths)}; make them equal"
    ]


def _list(track: Path, files: Iterable[Path]) -> str:
    """Name files; those that lie outside the track's folder with the folder of their stem."""
    return ", ".join(
        file.name if file.parent == track else f"{file.parent.name}/{file.name}" for file in files
    )
