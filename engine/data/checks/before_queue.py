"""Checks every audio file of a run before the run is queued. Free of torch.

The header and the last sample of each file are read: 0.3 ms for a sentence, up to 40 ms for a song.
Which files belong to a run is declared by its kind of data, in `engine.data.kinds`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from engine.config.data import AudioData
from engine.config.errors import DataError, Problem
from engine.data.files.audio_files import AudioInfo, check_ends, not_used
from engine.data.files.headers import scan_indexed
from engine.data.files.rates import check_policy
from models.base.settings import Section
from models.folders import walk
from models.user_paths import expanded

AnyData = TypeVar("AnyData", bound=Section)
# (settings, folder, setting that names it) -> headers of the files of the folder that a run uses.
Files = Callable[[Any, Path, str], list[AudioInfo]]
# A check of settings against each other; raises DataError.
Check = Callable[[Any], None]


def check_audio(data: AudioData, *, files: Files, check: Check | None = None) -> None:
    """Check the folders of all splits: readable files, rates, channels, complete tracks.

    Args:
        data: the settings.
        files: finds the files of a folder.
        check: what else to check.

    Raises:
        DataError: with everything that is wrong in any of them.
    """
    checks: list[Callable[[], None]] = [
        partial(_check_folder, data, folder, setting=setting, files=files)
        for folder, setting in dict.fromkeys(data.folders)
    ]
    if check is not None:
        checks.append(partial(check, data))
    problems: list[Problem] = []
    for one in checks:
        try:
            one()
        except DataError as error:
            problems.extend(error.problems)
    if problems:
        raise DataError(problems)


def with_absolute_paths(data: AnyData) -> AnyData:
    """Return the settings with `~` and relative paths resolved; the files need not be there."""
    absolute = {name: expanded(value).absolute() for name, value in data if isinstance(value, Path)}
    return data.model_copy(update=absolute)


def audio_warnings(data: AudioData, *, files: Files) -> list[str]:
    """Return warnings about data that is allowed but probably a mistake.

    Those are validation on training audio, and files whose header does not match their content.

    Args:
        data: the settings.
        files: finds the files of a folder.
    """
    warnings = []
    for folder, setting in dict.fromkeys(data.folders):
        warnings += [f"{setting}: {note}" for note in not_used(walk(expanded(folder)))]
        with suppress(DataError):
            warnings += header_warnings(files(data, expanded(folder), setting), setting=setting)
    train, valid = expanded(data.train).resolve(), expanded(data.valid).resolve()
    if data.splits_by_name or not (valid.is_relative_to(train) or train.is_relative_to(valid)):
        return warnings
    return [
        *warnings,
        "data.valid shares files with data.train, so validation scores include training audio; "
        "use separate folders",
    ]


def header_warnings(infos: Iterable[AudioInfo], *, setting: str) -> list[str]:
    """Return a warning about files whose header does not match their content; none where all do."""
    odd = [info for info in infos if info.note]
    if not odd:
        return []
    files = "1 file has" if len(odd) == 1 else f"{len(odd):,} files have"
    return [
        f"{setting}: {files} a header that does not match the content, for example {odd[0].path}: "
        f"{odd[0].note}; `sepdash data check` lists all"
    ]


def loose_files(data: AudioData, folder: Path, setting: str) -> list[AudioInfo]:
    """Return the headers of all audio files of a folder, at any depth.

    Raises:
        DataError: with everything that is wrong with the folder.
    """
    return scan_indexed(folder, setting=setting)


def _check_folder(data: AudioData, folder: Path, *, setting: str, files: Files) -> None:
    infos = files(data, folder, setting)
    check_policy(infos, data, setting=setting)
    check_ends(infos, setting=setting)
