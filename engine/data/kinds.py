"""Every kind of data, declared once: how it is checked, surveyed, warned of, sized and read.

The settings of a kind are in `engine.config`; what follows from them here. Whoever has data of any
kind asks this table, and nobody tests which kind it is. Free of torch: datasets are named, and
imported when they are opened.

To add a kind: its settings, a subclass of `engine.config.data_settings.DataSettings`, and an entry
here. An installed package names its settings by the entry point group `sepdash.data`, and they name
their `DataKind` in `handler`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from engine.config.data import BandwidthData, DenoiseData, SpeakersData, StemsData
from engine.config.data_settings import DataSettings
from engine.config.errors import ConfigError, DataError, Problem
from engine.config.schema import RunConfig
from engine.config.speech import SpeechData
from engine.config.unlabelled import UnlabelledData
from engine.config.voice import VoiceData
from engine.data.checks.before_queue import (
    Check,
    Files,
    audio_warnings,
    check_audio,
    loose_files,
    with_absolute_paths,
)
from engine.data.checks.findings import Progress, Survey
from engine.data.checks.item_sizes import audio_sizes, speech_sizes
from engine.data.checks.speech_before_queue import (
    check_speech,
    speech_warnings,
    text_notes,
    voice_warnings,
)
from engine.data.checks.speech_survey import survey_speech
from engine.data.checks.survey import (
    ContentsOf,
    loose_contents,
    speaker_contents,
    stem_contents,
    survey_audio,
)
from engine.data.checks.unlabelled import (
    check_unlabelled,
    survey_unlabelled,
    unlabelled_sizes,
    unlabelled_warnings,
)
from engine.data.files.rates import check_detours
from engine.data.separation.speaker_folders import speaker_files
from engine.data.separation.tracks import first_stems, stem_files
from models import folders
from models.entry_points import load_target


class SurveyOf(Protocol):
    """Surveys what settings name; arguments as `survey_data`, with absolute paths."""

    def __call__(
        self, data: Any, *, content: bool = True, progress: Progress | None = None
    ) -> list[Survey]:
        """Return a survey of each folder."""


@dataclass(frozen=True, slots=True)
class DataKind:
    """What can be done with data of one kind; each function takes its settings.

    Attributes:
        check: raises DataError with everything that would stop a run, before it is queued.
        survey: lists every problem of every file.
        warnings: says what is allowed but hardly meant.
        notes: says what a person should have seen before training, such as how texts are normalised.
        sizes: returns (N, 1) seconds, or (N, 2) seconds and tokens, of the training items, as
            many as `dataset` has; paths are absolute.
        dataset: `"package.module:name"`, called with (config, split); its module may import torch.
            What it returns is what the recipes of the kind read.
    """

    check: Check
    survey: SurveyOf
    warnings: Callable[[Any], list[str]]
    sizes: Callable[[Any], np.ndarray]
    dataset: str
    notes: Callable[[Any], list[str]] = lambda data: []


def audio_kind(
    dataset: str,
    *,
    files: Files = loose_files,
    lengths: Files | None = None,
    contents: ContentsOf = loose_contents,
    check: Check | None = None,
) -> DataKind:
    """Return the entry of a kind of `AudioData`.

    Args:
        dataset: as in `DataKind`; `engine.data.separation.dataset.Dataset` for separation.
        files: finds the files of a folder that a run uses.
        lengths: finds those whose items are counted, where some lie beside each other; all when left out.
        contents: finds them for a survey, with what is wrong with others.
        check: checks settings against each other; raises DataError.
    """
    return DataKind(
        check=partial(check_audio, files=files, check=check),
        survey=partial(survey_audio, contents=contents, check=check),
        warnings=partial(audio_warnings, files=files),
        sizes=partial(audio_sizes, files=lengths or files),
        dataset=dataset,
    )


_KINDS: Mapping[type[DataSettings], DataKind] = {
    BandwidthData: audio_kind(
        "engine.data.separation.bandwidth:BandwidthDataset", check=check_detours
    ),
    DenoiseData: audio_kind("engine.data.separation.denoise:DenoiseDataset"),
    StemsData: audio_kind(
        "engine.data.separation.stems:StemsDataset",
        files=stem_files,
        lengths=first_stems,
        contents=stem_contents,
    ),
    SpeakersData: audio_kind(
        "engine.data.separation.speakers:SpeakersDataset",
        files=speaker_files,
        contents=speaker_contents,
    ),
    SpeechData: DataKind(
        check=check_speech,
        survey=survey_speech,
        warnings=speech_warnings,
        notes=text_notes,
        sizes=speech_sizes,
        dataset="engine.data.speech.utterances:open_utterances",
    ),
    VoiceData: DataKind(
        check=check_speech,
        survey=survey_speech,
        warnings=voice_warnings,
        notes=text_notes,
        sizes=speech_sizes,
        dataset="engine.data.speech.utterances:open_utterances",
    ),
    UnlabelledData: DataKind(
        check=check_unlabelled,
        survey=survey_unlabelled,
        warnings=unlabelled_warnings,
        sizes=unlabelled_sizes,
        dataset="engine.data.unlabelled.dataset:open_unlabelled",
    ),
}


def kind_of(data: DataSettings) -> DataKind:
    """Return the entry of the kind of some data.

    Raises:
        ConfigError: when the package that provides it is broken.
    """
    built_in = _KINDS.get(type(data))
    if built_in is not None:
        return built_in
    try:
        handler = load_target(data.handler)
    except ValueError as error:
        message = f"{data.kind!r} can't be used: {error}"
        raise ConfigError([Problem("data.kind", message)]) from error
    if not isinstance(handler, DataKind):
        message = f"{data.kind!r} can't be used: {data.handler} is not an {__name__}.DataKind"
        raise ConfigError([Problem("data.kind", message)])
    return handler


def check_data(data: DataSettings) -> None:
    """Check everything that data name: folders, files, rates, channels, texts.

    Raises:
        DataError: with everything that is wrong.
    """
    _check_answers(data)
    kind_of(data).check(data)


def data_warnings(data: DataSettings) -> list[str]:
    """Return what is allowed but hardly meant."""
    return kind_of(data).warnings(with_absolute_paths(data))


def survey_data(
    data: DataSettings, *, content: bool = True, progress: Progress | None = None
) -> list[Survey]:
    """Survey what data name, held to their settings.

    Args:
        data: the settings.
        content: whether to listen to the files, too.
        progress: called with (files heard, files in all) now and then.

    Raises:
        DataError: for paths whose file system does not answer.
    """
    _check_answers(data)
    return kind_of(data).survey(with_absolute_paths(data), content=content, progress=progress)


def data_notes(data: DataSettings) -> list[str]:
    """Return what a person should have seen of the data before training, for plans."""
    return kind_of(data).notes(with_absolute_paths(data))


def train_sizes(data: DataSettings) -> np.ndarray:
    """Return the sizes of the training items, as `DataKind.sizes` does.

    Raises:
        DataError: when files or texts can't be read.
    """
    return kind_of(data).sizes(with_absolute_paths(data))


def open_dataset(config: RunConfig, split: Literal["train", "valid"]) -> Any:
    """Return the items of a split, as the recipes of this kind of data read them.

    Raises:
        DataError: with everything that is wrong with the folders and files.
    """
    _check_answers(config.data)
    return load_target(kind_of(config.data).dataset)(config, split)


def _check_answers(data: DataSettings) -> None:
    """Ask for each path once, so that one on a mount that is gone is a message and no hang.

    Raises:
        DataError: naming the settings and the paths.
    """
    problems = []
    for name, value in with_absolute_paths(data):
        if isinstance(value, Path):
            try:
                folders.kind_of(value)
            except folders.NoAnswer as error:
                problems.append(Problem(f"data.{name}", str(error)))
    if problems:
        raise DataError(problems)
