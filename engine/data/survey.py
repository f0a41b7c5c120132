"""Everything that is wrong with folders of audio, file by file, with counts and hours. Free of torch.

A run stops at files that it can't use (`engine.data.check`). This also finds what would spoil it
quietly, and listens to each file for that (`engine.data.listening`). Owns the kinds of problems, and
how a folder that no preset describes is understood.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from engine.config.data import AudioData, BandwidthData, DataConfig, SpeakersData, StemsData
from engine.data.audio_files import (
    AudioInfo,
    DataError,
    check_ends,
    check_folder,
    find_audio,
    probe,
)
from engine.data.check import folders_of, with_absolute_paths
from engine.data.layouts import KnownDataset, recognise
from engine.data.listening import listen
from engine.data.rates import channel_problems, check_detours, rate_problems
from engine.data.speaker_folders import belongs, too_few
from engine.data.tracks import TrackFiles, file_names, find_tracks, no_tracks, open_track

Kind = Literal[
    "empty", "unreadable", "stems", "rate", "channels", "short", "silent", "clipped", "settings"
]
KINDS: dict[Kind, str] = {
    "empty": "folders without what a run needs",
    "unreadable": "files that can't be read to their end",
    "stems": "tracks with stems missing or of unequal length",
    "rate": "files with a sampling rate that does not fit",
    "channels": "files with another number of channels",
    "short": "files shorter than a segment, which would be padded",
    "silent": "files without sound",
    "clipped": "files that were recorded too loud",
    "settings": "settings that do not fit the audio",
}
Progress = Callable[[int, int], None]
_MOST_STEMS = 12


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong; the message begins with the path."""

    kind: Kind
    message: str


@dataclass(frozen=True, slots=True)
class Survey:
    """What is in a folder, and all that is wrong with it; `setting` is what named the folder.

    A well-known dataset has its name in `dataset`, and how to train on it in `use`.
    """

    folder: Path
    setting: str
    layout: str
    num_files: int
    duration_s: float
    rates_hz: dict[int, int]
    channels: dict[int, int]
    findings: tuple[Finding, ...]
    dataset: str = ""
    use: str = ""


@dataclass(frozen=True, slots=True)
class Contents:
    """What was found before any bound is applied: readable files, and problems of the others."""

    infos: list[AudioInfo]
    findings: list[Finding]
    layout: str = "audio files at any depth"


def survey_data(
    data: DataConfig, *, content: bool = True, progress: Progress | None = None
) -> list[Survey]:
    """Survey the folders of a task, held to its settings.

    Args:
        data: the settings.
        content: whether to listen to the files, too.
        progress: told (files heard, files in all) now and then.
    """
    data = with_absolute_paths(data)
    surveys = [
        _survey_for(data, folder, setting, content=content, progress=progress)
        for folder, setting in dict.fromkeys(folders_of(data))
    ]
    if isinstance(data, BandwidthData):
        try:
            check_detours(data)
        except DataError as error:
            findings = tuple(Finding("settings", str(problem)) for problem in error.problems)
            surveys.append(Survey(data.train, "data.input_rates_hz", "", 0, 0.0, {}, {}, findings))
    return surveys


def survey_folder(
    folder: Path, *, segment_s: float, content: bool = True, progress: Progress | None = None
) -> Survey:
    """Survey a folder that no preset describes: what most of its files have in common is expected.

    Folders side by side that share the names of a few files are taken for tracks and their stems,
    and so is one alone that has a mixture.

    Raises:
        DataError: when it is no folder.
    """
    check_folder(folder, setting="")
    known = recognise(folder)
    found = _contents_of_known(known) if known and known.layout else _contents(folder)
    odd = [*_odd_ones(found.infos, "rate"), *_odd_ones(found.infos, "channels")]
    findings = [*found.findings, *odd, *_short(found.infos, segment_s)]
    findings += _sounds(found.infos, content=content, progress=progress)
    survey = _survey(folder, "", found, findings)
    return replace(survey, dataset=known.name, use=known.use) if known else survey


def _survey_for(
    data: DataConfig, folder: Path, setting: str, *, content: bool, progress: Progress | None
) -> Survey:
    try:
        check_folder(folder, setting="")
    except DataError as error:
        missing = [Finding("empty", problem.message) for problem in error.problems]
        return _survey(folder, setting, Contents([], [], ""), missing)
    found = _contents_for(data, folder, setting)
    findings = list(found.findings)
    if found.infos:
        rates = rate_problems(found.infos, data, setting)
        findings += [Finding("rate", problem.message) for problem in rates]
        wide = channel_problems(found.infos, data, setting)
        findings += [Finding("channels", problem.message) for problem in wide]
        findings += _odd_ones(found.infos, "channels") if data.channels > 1 and not wide else []
    if setting == "data.train":
        findings += _short(found.infos, data.segment_s)
    findings += _sounds(found.infos, content=content, progress=progress)
    return _survey(folder, setting, found, findings)


def _survey(folder: Path, setting: str, found: Contents, findings: Sequence[Finding]) -> Survey:
    return Survey(
        folder,
        setting,
        found.layout,
        len(found.infos),
        sum(info.duration_s for info in found.infos),
        dict(Counter(info.rate_hz for info in found.infos).most_common()),
        dict(Counter(info.channels for info in found.infos).most_common()),
        tuple(sorted(set(findings), key=lambda item: (list(KINDS).index(item.kind), item.message))),
    )


def _contents_for(data: AudioData, folder: Path, setting: str) -> Contents:
    if isinstance(data, StemsData):
        names = file_names(data)
        tracks = find_tracks(folder, data.layout)
        if not tracks:
            return Contents([], [Finding("empty", no_tracks(folder, names, data.layout))])
        infos, findings = _of_tracks(tracks, names)
        return Contents(infos, findings, _tracks_of(len(tracks), names))
    if isinstance(data, SpeakersData):
        split: Literal["train", "valid"] = "train" if setting == "data.train" else "valid"
        paths = [path for path in find_audio(folder) if belongs(path, data, split)]
        deep = [path for path in paths if len(path.relative_to(folder).parts) > 1]
        names_found = {path.relative_to(folder).parts[0] for path in deep}
        infos, findings = _probe(deep)
        if problem := too_few(folder, names_found, data, split):
            findings.append(Finding("empty", problem.message))
        return Contents(infos, findings, f"{len(names_found)} speakers")
    return _flat(folder)


def _flat(folder: Path) -> Contents:
    paths = find_audio(folder)
    if not paths:
        return Contents([], [Finding("empty", f"{folder}: no audio files, at any depth")])
    return Contents(*_probe(paths))


def _contents(folder: Path) -> Contents:
    """Find tracks anywhere below a folder; what is no stem of a track counts as a file."""
    paths = find_audio(folder)
    parents = sorted({path.parent.parent for path in paths if path.parent != folder})
    infos: list[AudioInfo] = []
    findings: list[Finding] = []
    stems: set[str] = set()
    taken: set[Path] = set()
    num_tracks = 0
    for parent in parents:
        tracks = [track for track in find_tracks(parent) if track.paths]
        names = _common_stems(tracks)
        if names:
            more_infos, more = _of_tracks(tracks, names)
            infos += more_infos
            findings += more
            stems.update(names)
            num_tracks += len(tracks)
            taken.update(p for track in tracks for p in track.paths if p.stem in names)
    if not taken:
        return _flat(folder)
    rest, more = _probe([path for path in paths if path not in taken])
    layout = _tracks_of(num_tracks, sorted(stems))
    return Contents([*infos, *rest], [*findings, *more], layout)


def _contents_of_known(known: KnownDataset) -> Contents:
    assert known.layout is not None
    tracks = [track for folder in known.folders for track in find_tracks(folder, known.layout)]
    infos, findings = _of_tracks(tracks, known.stems)
    return Contents(infos, findings, _tracks_of(len(tracks), known.stems))


def _common_stems(tracks: Sequence[TrackFiles]) -> tuple[str, ...]:
    """Return the names that most of several folders have, when they are few: those are stems."""
    few = len(tracks) < 2 and not any(p.stem == "mixture" for t in tracks for p in t.paths)
    if few or any(len(track.paths) > 2 * _MOST_STEMS for track in tracks):
        return ()
    counts = Counter(name for track in tracks for name in {path.stem for path in track.paths})
    names = tuple(
        sorted(
            name
            for name, number in counts.items()
            if 2 * number > len(tracks) and not name.isdecimal()
        )
    )
    return names if 2 <= len(names) <= _MOST_STEMS else ()


def _tracks_of(number: int, names: Sequence[str]) -> str:
    return f"{number} track{'s' if number > 1 else ''} of {', '.join(names)}"


def _of_tracks(
    tracks: Sequence[TrackFiles], names: tuple[str, ...]
) -> tuple[list[AudioInfo], list[Finding]]:
    infos: list[AudioInfo] = []
    findings: list[Finding] = []
    for files in tracks:
        track, problems = open_track(files, names)
        infos += track.values()
        for message in problems:
            named = any(message.startswith(f"{path}: ") for path in files.paths)
            findings.append(Finding("unreadable" if named else "stems", message))
    return infos, findings


def _probe(paths: Sequence[Path]) -> tuple[list[AudioInfo], list[Finding]]:
    infos: list[AudioInfo] = []
    findings: list[Finding] = []
    for path in paths:
        try:
            infos.append(probe(path))
        except DataError as error:
            findings += [Finding("unreadable", problem.message) for problem in error.problems]
    return infos, findings


def _odd_ones(infos: Sequence[AudioInfo], kind: Literal["rate", "channels"]) -> Iterator[Finding]:
    """Name the files that differ from most."""
    values = [info.rate_hz if kind == "rate" else info.channels for info in infos]
    counts = Counter(values).most_common()
    if len(counts) < 2:
        return
    usual, number = counts[0]
    unit = "Hz" if kind == "rate" else "channels"
    for info, value in zip(infos, values, strict=True):
        if value != usual:
            yield Finding(
                kind, f"{info.path}: {value} {unit}, where {number} of {len(infos)} have {usual}"
            )


def _short(infos: Sequence[AudioInfo], segment_s: float) -> Iterator[Finding]:
    for info in infos:
        if info.duration_s < segment_s:
            message = (
                f"{info.path}: {info.duration_s:.2f} s, shorter than a segment of {segment_s:g} s"
            )
            yield Finding("short", message)


def _sounds(
    infos: Sequence[AudioInfo], *, content: bool, progress: Progress | None
) -> Iterator[Finding]:
    if not content:
        try:
            check_ends(infos, setting="")
        except DataError as error:
            for problem in error.problems:
                yield Finding("unreadable", problem.message)
        return
    for number, heard in enumerate(listen(infos), start=1):
        if progress is not None:
            progress(number, len(infos))
        path = heard.info.path
        if heard.problem:
            yield Finding("unreadable", heard.problem)
        elif not heard.is_finite:
            yield Finding("unreadable", f"{path}: holds NaN or infinite samples; record it again")
        elif heard.is_silent:
            yield Finding("silent", f"{path}: silent, its loudest sample is {heard.peak:.1e}")
        if heard.num_clipped:
            yield Finding(
                "clipped",
                f"{path}: at full scale for three samples or more, {heard.num_clipped} times",
            )
