"""Stem separation: a folder for each track, an audio file for each stem.

Letters: S sources, C channels, T samples.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from engine.config.data import StemsData
from engine.config.problems import Problem
from engine.config.schema import RunConfig
from engine.data.audio_files import AudioInfo, DataError, check_folder, is_audio_name, probe
from engine.data.dataset import AudioItem
from engine.data.excerpts import Excerpts
from engine.data.source import Source, make_sources, manifest_of
from engine.recipes.base import Split

Track = dict[str, AudioInfo]


class StemsDataset:
    """Items of a folder of tracks: the mixture, and the target stems in the order of the config.

    The mixture is a file of its own, or the sum of targets and others.

    Raises:
        DataError: with everything that is wrong with any track.
    """

    def __init__(self, config: RunConfig, split: Split) -> None:
        assert isinstance(config.data, StemsData)
        data = config.data
        folder = data.train if split == "train" else data.valid
        setting = f"data.{split}"
        self._names = file_names(data)
        tracks = scan_tracks(folder, self._names, setting=setting)
        infos = [track[name] for track in tracks for name in self._names]
        sources = make_sources(infos, data, setting=setting)
        width = len(self._names)
        self._tracks: list[list[Source]] = [
            sources[i : i + width] for i in range(0, len(sources), width)
        ]
        self._num_targets = len(data.targets)
        self._has_mixture = bool(data.mixture)
        self._excerpts = Excerpts([track[0].length for track in self._tracks], config, split)
        self.manifest = manifest_of(folder, infos)

    def __len__(self) -> int:
        """Return the number of items of an epoch."""
        return len(self._excerpts)

    def durations_s(self) -> np.ndarray:
        """Return (N,) float64, the length of each item in seconds."""
        return self._excerpts.durations_s()

    def item(self, epoch: int, index: int) -> AudioItem:
        """Return the mixture and the targets of an item."""
        place = self._excerpts.locate(epoch, index)
        track = self._tracks[place.file]
        stems_SCT = np.stack([source.read(place.start, place.frames) for source in track])
        mix_CT = stems_SCT[-1] if self._has_mixture else stems_SCT.sum(axis=0)
        target_SCT = stems_SCT[: self._num_targets]
        return AudioItem(place.pad(mix_CT), place.pad(target_SCT))


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
