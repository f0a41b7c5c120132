"""Everything that is wrong with folders of audio, file by file, with counts and hours. Free of torch.

A run stops at files that it can't use (`engine.data.checks.before_queue`). This also finds what would spoil it
quietly, and listens to each file for that (`engine.data.checks.findings`). Owns how a folder that no preset
describes is understood.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from engine.config.data import AudioData, SpeakersData, StemsData
from engine.config.errors import DataError
from engine.data.checks.before_queue import Check
from engine.data.checks.findings import Contents, Finding, Progress, Survey, make_survey, sounds
from engine.data.checks.layouts import KnownDataset, recognise
from engine.data.checks.speech_survey import survey_transcripts
from engine.data.checks.unlabelled import has_texts, survey_manifest
from engine.data.files.audio_files import AudioInfo, check_folder, is_audio_name, probe_each
from engine.data.files.foreign_tables import kaldi_folder
from engine.data.files.rates import channel_problems, rate_problems
from engine.data.separation.speaker_folders import find_speakers, split_of, too_few
from engine.data.separation.tracks import (
    TrackFiles,
    file_names,
    find_tracks,
    no_tracks,
    open_track,
    tracks_in,
)
from models.folders import Walk, walk

_MOST_STEMS = 12
# (settings, folder, setting that names it) -> what is in the folder.
ContentsOf = Callable[[Any, Path, str], Contents]


def survey_audio(
    data: AudioData,
    *,
    contents: ContentsOf,
    check: Check | None = None,
    content: bool = True,
    progress: Progress | None = None,
) -> list[Survey]:
    """Survey the folders of a task (absolute paths), held to its settings.

    Args:
        data: the settings.
        contents: finds what is in a folder.
        check: checks settings against each other.
        content: whether to listen to the files, too.
        progress: called with (files heard, files in all) now and then.
    """
    surveys = [
        _survey_for(
            data, folder, setting=setting, contents=contents, content=content, progress=progress
        )
        for folder, setting in dict.fromkeys(data.folders)
    ]
    if check is not None:
        try:
            check(data)
        except DataError as error:
            findings = tuple(Finding("settings", str(problem)) for problem in error.problems)
            key = error.problems[0].key
            surveys.append(
                Survey(
                    data.train,
                    key,
                    layout="",
                    num_files=0,
                    duration_s=0.0,
                    rates_hz={},
                    channels={},
                    findings=findings,
                )
            )
    return surveys


def survey_folder(
    folder: Path, *, segment_s: float, content: bool = True, progress: Progress | None = None
) -> Survey:
    """Survey a folder that no preset describes: what most of its files have in common is expected.

    A file is taken for a manifest of utterances, with texts if its first row has one. Folders side by side that share the names of a few files are taken for tracks and their stems,
    and so is one alone that has a mixture.

    Raises:
        DataError: when it is no folder.
    """
    if folder.is_file() or kaldi_folder(folder) is not None:
        survey_file = survey_transcripts if has_texts(folder) else survey_manifest
        return survey_file(folder, content=content, progress=progress)
    check_folder(folder, setting="")
    found = walk(folder)
    known = recognise(folder, found)
    if known and known.has_text:
        survey = survey_transcripts(folder, content=content, progress=progress)
        return replace(survey, dataset=known.name, use=known.use)
    folder_contents = _contents_of_known(known) if known and known.layout else _contents(found)
    odd = [*_odd_ones(folder_contents.infos, "rate"), *_odd_ones(folder_contents.infos, "channels")]
    findings = [*folder_contents.findings, *odd, *_short(folder_contents.infos, segment_s)]
    findings += sounds(folder_contents.infos, content=content, progress=progress)
    survey = make_survey(folder, "", contents=folder_contents, findings=findings)
    return replace(survey, dataset=known.name, use=known.use) if known else survey


def _survey_for(
    data: AudioData,
    folder: Path,
    *,
    setting: str,
    contents: ContentsOf,
    content: bool,
    progress: Progress | None,
) -> Survey:
    try:
        check_folder(folder, setting="")
    except DataError as error:
        missing = [Finding("empty", problem.message) for problem in error.problems]
        return make_survey(folder, setting, contents=Contents([], [], layout=""), findings=missing)
    folder_contents = contents(data, folder, setting)
    findings = list(folder_contents.findings)
    if folder_contents.infos:
        rates = rate_problems(folder_contents.infos, data, setting=setting)
        findings += [Finding("rate", problem.message) for problem in rates]
        wide = channel_problems(folder_contents.infos, data, setting=setting)
        findings += [Finding("channels", problem.message) for problem in wide]
        findings += (
            _odd_ones(folder_contents.infos, "channels") if data.channels > 1 and not wide else []
        )
    if setting == "data.train":
        findings += _short(folder_contents.infos, data.segment_s)
    findings += sounds(folder_contents.infos, content=content, progress=progress)
    return make_survey(folder, setting, contents=folder_contents, findings=findings)


def stem_contents(data: StemsData, folder: Path, setting: str) -> Contents:
    """Return the stems of the tracks of a folder."""
    names = file_names(data)
    problems: list[str] = []
    tracks = find_tracks(folder, data.layout, problems=problems)
    if not tracks and not problems:
        return Contents([], [Finding("empty", no_tracks(folder, names, layout=data.layout))])
    infos, findings = _of_tracks(tracks, names)
    return Contents(
        infos, [*_unreadable(problems), *findings], layout=_tracks_of(len(tracks), names)
    )


def speaker_contents(data: SpeakersData, folder: Path, setting: str) -> Contents:
    """Return the files of a folder that belong to the split, below folders of speakers."""
    split = split_of(setting)
    problems: list[str] = []
    speaker_of = find_speakers(folder, data, split=split, problems=problems)
    names_found = set(speaker_of.values())
    infos, more = probe_each(speaker_of)
    findings = _unreadable([*problems, *more])
    if problem := too_few(folder, names_found, data=data, split=split):
        findings.append(Finding("empty", problem.message))
    return Contents(infos, findings, layout=f"{len(names_found)} speakers")


def loose_contents(data: AudioData, folder: Path, setting: str) -> Contents:
    """Return the audio files of a folder, at any depth."""
    return _flat(walk(folder))


def _flat(found: Walk) -> Contents:
    paths = found.named(is_audio_name)
    if not paths and not found.problems:
        return Contents([], [Finding("empty", f"{found.root}: no audio files, at any depth")])
    infos, problems = probe_each(paths)
    return Contents(infos, _unreadable([*found.problems, *problems]))


def _unreadable(problems: Sequence[str]) -> list[Finding]:
    return [Finding("unreadable", message) for message in problems]


def _contents(found: Walk) -> Contents:
    """Find tracks anywhere below a folder; what is no stem of a track counts as a file."""
    audio = found.by_folder(is_audio_name)
    children: dict[Path, list[Path]] = {}
    for folder in audio:
        if folder != found.root:
            children.setdefault(folder.parent, []).append(folder)
    infos: list[AudioInfo] = []
    findings = _unreadable(found.problems)
    stems: set[str] = set()
    taken: set[Path] = set()
    num_tracks = 0
    for parent in sorted(children):
        tracks = tracks_in(children[parent], audio)
        names = _common_stems(tracks)
        if names:
            more_infos, more = _of_tracks(tracks, names)
            infos += more_infos
            findings += more
            stems.update(names)
            num_tracks += len(tracks)
            taken.update(p for track in tracks for p in track.paths if p.stem in names)
    if not taken:
        return _flat(found)
    rest, problems = probe_each(path for path in found.named(is_audio_name) if path not in taken)
    layout = _tracks_of(num_tracks, sorted(stems))
    return Contents([*infos, *rest], [*findings, *_unreadable(problems)], layout=layout)


def _contents_of_known(known: KnownDataset) -> Contents:
    assert known.layout is not None
    problems: list[str] = []
    tracks = [
        track
        for folder in known.folders
        for track in find_tracks(folder, known.layout, problems=problems)
    ]
    infos, findings = _of_tracks(tracks, known.stems)
    return Contents(
        infos, [*_unreadable(problems), *findings], layout=_tracks_of(len(tracks), known.stems)
    )


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
                f"{info.path}: {info.duration_s:.2f} s, shorter than one segment of {segment_s:g} s"
            )
            yield Finding("short", message)
