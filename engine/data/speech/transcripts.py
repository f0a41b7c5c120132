"""Utterances with transcripts on disk: manifests and LibriSpeech folders. Free of torch.

A manifest is read by `engine.data.files.manifest_rows`, whoever wrote it. sepdash's own has one JSON object in each line: `path` (absolute, or seen from the manifest) and `text`
(without it, `label` is the text), and, where the utterance is a part of the file, `start` and `duration` in seconds. `phonemes`
holds those of the text by language, made before: {"en-us": "həlˈoʊ"}. Other keys are kept as they are for who knows them. A LibriSpeech folder has <speaker>/<chapter>/<speaker>-<chapter>.trans.txt, with
`<id> <TEXT>` in each line, beside <id>.flac. Owns both formats, and the messages about invalid rows.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.config.errors import DataError, Problem, encodable
from engine.config.utterances import UtteranceData
from engine.data.files.audio_files import AudioInfo, probe
from engine.data.files.foreign_tables import kaldi_folder
from engine.data.files.manifest_rows import outside, rows_of
from engine.data.files.text_files import lines_of
from engine.text.normalise import prepared, strangers
from models.folders import Walk, walk
from models.user_paths import expanded

TRANSCRIPT = ".trans.txt"
_LISTS = (".txt",)
_KEYS = ("path", "start", "duration", "text")


@dataclass(frozen=True, slots=True)
class Utterance:
    """A part of an audio file, in seconds, and its transcript.

    Attributes:
        text: as tokenizers read it (`prepared`): normalised, or phonemes.
        speaker: empty where the manifest names none.
        written: the transcript as the manifest has it, for whoever reads it by other settings.
    """

    path: Path
    start_s: float
    duration_s: float
    text: str
    speaker: str = field(default="", compare=False)
    written: str = field(default="", compare=False)


@dataclass(slots=True)
class Transcripts:
    """Contents of a manifest or folder: valid utterances, their audio files, and the invalid rows."""

    path: Path
    utterances: list[Utterance] = field(default_factory=list)
    places: list[str] = field(default_factory=list)  # of each utterance: "file:line"
    extras: list[Mapping[str, Any]] = field(
        default_factory=list
    )  # of each utterance: its other keys
    infos: dict[Path, AudioInfo] = field(default_factory=dict)
    bad_rows: list[str] = field(default_factory=list)
    # Places of rows that repeat another one, and what is wrong with those that have another text than it.
    doubles: list[str] = field(default_factory=list)
    contradictions: list[str] = field(default_factory=list)
    # Part of a file -> where it was found first, and its text.
    _known: dict[tuple[Path, float, float], tuple[str, str]] = field(default_factory=dict)

    def add(self, item: Utterance, row: _Row) -> None:
        """Take an utterance, and note whether its part of the file was there before."""
        key = (item.path, round(item.start_s, 3), round(item.duration_s, 3))
        first, text = self._known.setdefault(key, (row.place, item.text))
        if text != item.text:
            self.contradictions.append(
                f"{row.place}: is the same part of {item.path.name} as {first}, with another text"
            )
        elif first != row.place:
            self.doubles.append(row.place)
        self.utterances.append(item)
        self.places.append(row.place)
        self.extras.append(row.extra)

    def check_vocabulary(self, vocabulary: str, source: str) -> list[str]:
        """Describe the rows whose text has characters that are not in a vocabulary."""
        return [
            f"{place}: text contains {odd}, {source}"
            for place, utterance in zip(self.places, self.utterances, strict=True)
            if (odd := strangers(utterance.text, vocabulary))
        ]


@dataclass(frozen=True, slots=True)
class _Row:
    """A line of a manifest or transcript before its audio file is opened."""

    place: str
    path: Path
    text: str
    start_s: float = 0.0
    duration_s: float | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


def read_manifest(path: Path, data: UtteranceData, *, setting: str = "") -> list[Utterance]:
    """Read all utterances of a manifest or LibriSpeech folder, in its order.

    Raises:
        DataError: with all invalid rows, under the key `setting`.
    """
    return checked_transcripts(path, data, setting=setting).utterances


def checked_transcripts(path: Path, data: UtteranceData, *, setting: str) -> Transcripts:
    """Read a manifest or LibriSpeech folder that must not have invalid rows.

    Raises:
        DataError: with all invalid rows, under the key `setting`.
    """
    transcripts = read_transcripts(path, data)
    if transcripts.bad_rows:
        raise DataError(Problem(setting, message) for message in transcripts.bad_rows)
    return transcripts


def read_transcripts(path: Path, data: UtteranceData) -> Transcripts:
    """Read a manifest or LibriSpeech folder; invalid rows are described in `bad_rows`."""
    transcripts = Transcripts(path)
    unusable: dict[Path, str] = {}
    for row in _rows(path, transcripts.bad_rows):
        problem = _take(row, transcripts, unusable=unusable, data=data)
        if problem:
            transcripts.bad_rows.append(f"{row.place}: {problem}")
    if not transcripts.utterances and not transcripts.bad_rows:
        problem = "contains no utterances" if path.is_file() else f"contains no *{TRANSCRIPT} file"
        transcripts.bad_rows.append(
            f"{path}: {problem}; expected a manifest with lines like "
            '{"path": "a.flac", "start": 0.0, "duration": 2.5, "text": "hello"}, '
            "or a LibriSpeech folder with <speaker>/<chapter>/*.trans.txt beside *.flac; `sepdash data voice` "
            "makes manifests of other layouts"
        )
    return transcripts


def write_manifest(
    path: Path, utterances: Iterable[Utterance], *, extra: Sequence[Mapping[str, Any]] = ()
) -> None:
    """Write a manifest, whole or not at all; paths below its folder are relative to it.

    Args:
        path: the manifest.
        utterances: its rows, in order.
        extra: further keys for each row, such as the speaker.
    """
    lines = []
    for number, item in enumerate(utterances):
        name = item.path
        if name.is_relative_to(path.parent):
            name = name.relative_to(path.parent)
        row = {
            "path": name.as_posix(),
            "start": round(item.start_s, 6),
            "duration": round(item.duration_s, 6),
            "text": item.text,
        }
        lines.append(_line({**row, **(extra[number] if extra else {})}))
    aside = path.with_name(f".{path.name}.new")
    aside.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    aside.replace(path)


def _line(values: Mapping[str, Any]) -> str:
    """Return a row as JSON; one with bytes that are no UTF-8, as file names may have, is escaped."""
    line = json.dumps(values, ensure_ascii=False)
    return line if line == encodable(line) else json.dumps(values)


def _take(
    row: _Row, transcripts: Transcripts, *, unusable: dict[Path, str], data: UtteranceData
) -> str:
    """Add the utterance of a row, or return its problems."""
    if row.path not in transcripts.infos and row.path not in unusable:
        try:
            transcripts.infos[row.path] = probe(row.path)
        except DataError as error:
            unusable[row.path] = error.problems[0].message
    problems = [unusable[row.path]] if row.path in unusable else []
    kept = row.extra.get("phonemes")
    if kept is not None and not _are_phonemes(kept):
        problems.append(f'phonemes must be like {{"en-us": "həlˈoʊ"}}, found {kept!r:.60}')
        kept = None
    text = prepared(row.text, data, kept=kept)
    if not text:
        problems.append(
            f"text {row.text!r} is empty after normalisation" if row.text else "text is empty"
        )
    if data.vocabulary and (odd := strangers(text, data.vocabulary)):
        problems.append(f"text contains {odd}, not in data.vocabulary")
    if row.path in transcripts.infos:
        length_s = transcripts.infos[row.path].duration_s
        problems += outside(row.start_s, row.duration_s, length_s=length_s)
        if not problems:
            end_s = length_s if row.duration_s is None else row.start_s + row.duration_s
            duration_s = min(end_s, length_s) - row.start_s
            speaker = str(row.extra.get("speaker", ""))
            item = Utterance(
                row.path,
                row.start_s,
                duration_s=duration_s,
                text=text,
                speaker=speaker,
                written=row.text,
            )
            transcripts.add(item, row)
    return "; ".join(problems)


def _are_phonemes(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())


def _rows(path: Path, bad_rows: list[str]) -> Iterator[_Row]:
    if path.is_dir() and kaldi_folder(path) is None:
        found = walk(path)
        bad_rows += found.problems
        flacs = found.by_folder(lambda name: name.endswith(".flac"))
        texts = found.named(lambda name: name.endswith(TRANSCRIPT))
        of_folder = Counter(text.parent for text in texts)
        for text in texts:
            alone = of_folder[text.parent] == 1
            there = {flac.stem for flac in flacs.get(text.parent, ())} if alone else set()
            yield from _librispeech_rows(text, bad_rows, there=there)
        return
    folder = path.parent
    if path.suffix.lower() in _LISTS:
        bad_rows.append(
            f"{path}: is a table, not a manifest (.jsonl); make one of it with `sepdash data voice {path}`"
        )
        return
    for place, values in rows_of(path, bad_rows, keys=_KEYS, texts=("path", "text")):
        start_s, duration_s = float(values.get("start", 0.0)), values.get("duration")
        duration_s = None if duration_s is None else float(duration_s)
        audio = folder / expanded(values["path"], beside=folder)
        extra = {key: value for key, value in values.items() if key not in _KEYS}
        yield _Row(
            place, audio, text=values["text"], start_s=start_s, duration_s=duration_s, extra=extra
        )


def has_transcripts(found: Walk) -> bool:
    """Return whether a folder is one of Kaldi, or has LibriSpeech's transcripts, at any depth."""
    is_kaldi = kaldi_folder(found.root) is not None
    return is_kaldi or bool(found.named(lambda name: name.endswith(TRANSCRIPT)))


def _librispeech_rows(transcript: Path, bad_rows: list[str], *, there: Set[str]) -> Iterator[_Row]:
    """Yield the rows of a transcript; `there`: names of the files that must have one."""
    known: set[str] = set()
    for number, line in lines_of(transcript, bad_rows):
        name, _, text = line.partition(" ")
        place = f"{transcript}:{number}"
        if name in known:
            bad_rows.append(f"{place}: duplicate text for {name}")
            continue
        known.add(name)
        speaker = {"speaker": name.partition("-")[0]}
        yield _Row(place, transcript.with_name(f"{name}.flac"), text=text, extra=speaker)
    bad_rows += [
        f"{transcript.with_name(f'{name}.flac')}: no transcript in {transcript.name}"
        for name in sorted(there - known)
    ]
