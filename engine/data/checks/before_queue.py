"""Looks at every file of a run's data before the run is queued. Free of torch.

The header of each file is read and its last sample: 0.3 ms for a sentence, up to 40 ms for a song.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

from engine.config.data import (
    AudioData,
    BandwidthData,
    DataConfig,
    DenoiseData,
    SpeakersData,
    StemsData,
)
from engine.config.errors import DataError, Problem
from engine.config.speech import SpeechData
from engine.data.checks.speech_before_queue import check_speech, speech_warnings
from engine.data.files.audio_files import AudioInfo, check_ends
from engine.data.files.headers import scan_indexed
from engine.data.files.rates import check_detours, check_policy
from engine.data.separation.speaker_folders import scan_speakers
from engine.data.separation.tracks import file_names, scan_tracks
from models.settings import Section

AnyData = TypeVar("AnyData", bound=Section)


def check_data(data: DataConfig) -> None:
    """Check the folders of both splits: readable files, rates, channels, complete tracks.

    Raises:
        DataError: with everything that is wrong in any of them.
    """
    if isinstance(data, SpeechData):
        check_speech(data)
        return
    problems: list[Problem] = []
    checks: list[Callable[[], None]] = [
        partial(_check_folder, data, folder, setting)
        for folder, setting in dict.fromkeys(folders_of(data))
    ]
    if isinstance(data, BandwidthData):
        checks.append(partial(check_detours, data))
    for check in checks:
        try:
            check()
        except DataError as error:
            problems.extend(error.problems)
    if problems:
        raise DataError(problems)


def with_absolute_paths(data: AnyData) -> AnyData:
    """Return the settings with `~` and relative paths resolved; the files need not be there."""
    absolute = {
        name: value.expanduser().absolute() for name, value in data if isinstance(value, Path)
    }
    return data.model_copy(update=absolute)


def data_warnings(data: DataConfig) -> list[str]:
    """Return what is allowed but hardly meant: scores of audio that was trained on."""
    if isinstance(data, SpeechData):
        return speech_warnings(with_absolute_paths(data))
    train, valid = data.train.expanduser().resolve(), data.valid.expanduser().resolve()
    # Files held out by name may lie beside those that are trained on.
    split = isinstance(data, SpeakersData) and data.held_out
    if split or not (valid.is_relative_to(train) or train.is_relative_to(valid)):
        return []
    return [
        "data.valid shares files with data.train: the scores are of audio that was trained on; "
        "give it a folder of its own"
    ]


def _check_folder(data: AudioData, folder: Path, setting: str) -> None:
    infos = files_of(data, folder, setting)
    check_policy(infos, data, setting=setting)
    check_ends(infos, setting=setting)


def folders_of(data: AudioData) -> Iterator[tuple[Path, str]]:
    """Name the folders of a task, each with the setting that holds it."""
    yield data.train, "data.train"
    yield data.valid, "data.valid"
    if isinstance(data, DenoiseData):
        yield data.noise_folder("train")
        yield data.noise_folder("valid")


def files_of(data: AudioData, folder: Path, setting: str) -> list[AudioInfo]:
    """Return the headers of all files of a folder that a run uses, stem by stem.

    Raises:
        DataError: with everything that is wrong with the folder.
    """
    if isinstance(data, StemsData):
        names = file_names(data)
        tracks = scan_tracks(folder, names, setting=setting, layout=data.layout)
        return [track[name] for track in tracks for name in names]
    if isinstance(data, SpeakersData):
        split: Literal["train", "valid"] = "train" if setting == "data.train" else "valid"
        return [info for _, info in scan_speakers(folder, data, split)]
    return scan_indexed(folder, setting=setting)
