"""Speech with its text on disk: JSON-lines manifests and LibriSpeech folders. Free of torch.

A manifest has one JSON object in each line: `path` (absolute, or seen from the manifest) and `text`,
and, where the utterance is a part of the file, `start` and `duration` in seconds. Other keys are left
alone. A LibriSpeech folder has <speaker>/<chapter>/<speaker>-<chapter>.trans.txt, with
`<id> <TEXT>` in each line, beside <id>.flac. Owns both formats, and what is wrong with a row.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.config.errors import DataError, Problem, nearest
from engine.config.speech import SpeechData
from engine.data.files.audio_files import AudioInfo, probe
from engine.text.normalise import normalise, strangers

TRANSCRIPT = ".trans.txt"
_KEYS = ("path", "start", "duration", "text")
_LONGEST_S = 1e9  # no recording: NaN, infinity and integers that no float can hold fail, too
_ROUNDING_S = 0.01  # manifests round to hundredths; an end that far past the file's is the file's


@dataclass(frozen=True, slots=True)
class Utterance:
    """A stretch of an audio file, in seconds, and what is said there (normalised)."""

    path: Path
    start_s: float
    duration_s: float
    text: str


@dataclass(slots=True)
class Transcripts:
    """What a manifest or folder holds: good utterances, the files they lie in, and the bad rows."""

    path: Path
    utterances: list[Utterance] = field(default_factory=list)
    places: list[str] = field(default_factory=list)  # of each utterance: "file:line"
    infos: dict[Path, AudioInfo] = field(default_factory=dict)
    bad_rows: list[str] = field(default_factory=list)

    def check_vocabulary(self, vocabulary: str, source: str) -> list[str]:
        """Describe the rows whose text has characters that are not in a vocabulary."""
        return [
            f"{place}: text has {odd}, which {source}"
            for place, utterance in zip(self.places, self.utterances, strict=True)
            if (odd := strangers(utterance.text, vocabulary))
        ]


@dataclass(frozen=True, slots=True)
class _Row:
    """A line of a manifest or transcript before anything was looked up."""

    place: str
    path: Path
    text: str
    start_s: float = 0.0
    duration_s: float | None = None


def read_manifest(path: Path, data: SpeechData, *, setting: str = "") -> list[Utterance]:
    """Read all utterances of a manifest or LibriSpeech folder, in its order.

    Raises:
        DataError: with every bad row at once, under the key `setting`.
    """
    return checked_transcripts(path, data, setting=setting).utterances


def checked_transcripts(path: Path, data: SpeechData, *, setting: str) -> Transcripts:
    """Read a manifest or LibriSpeech folder that must have no bad row.

    Raises:
        DataError: with every bad row at once, under the key `setting`.
    """
    found = read_transcripts(path, data)
    if found.bad_rows:
        raise DataError(Problem(setting, message) for message in found.bad_rows)
    return found


def read_transcripts(path: Path, data: SpeechData) -> Transcripts:
    """Read a manifest or LibriSpeech folder; what is wrong is told in `bad_rows`."""
    found = Transcripts(path)
    unusable: dict[Path, str] = {}
    for row in _rows(path, found.bad_rows):
        problem = _take(row, found, unusable, data)
        if problem:
            found.bad_rows.append(f"{row.place}: {problem}")
    if not found.utterances and not found.bad_rows:
        what = "no utterances in it" if path.is_file() else f"no *{TRANSCRIPT} in it"
        found.bad_rows.append(
            f"{path}: {what}; expected a manifest with lines like "
            '{"path": "a.flac", "start": 0.0, "duration": 2.5, "text": "hello"}, '
            "or a folder of LibriSpeech, <speaker>/<chapter>/*.trans.txt beside *.flac"
        )
    return found


def write_manifest(
    path: Path, utterances: Iterable[Utterance], *, extra: Sequence[Mapping[str, Any]] = ()
) -> None:
    """Write a manifest, whole or not at all; files below its folder are named from there.

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
        lines.append(json.dumps({**row, **(extra[number] if extra else {})}, ensure_ascii=False))
    aside = path.with_name(f".{path.name}.new")
    aside.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    aside.replace(path)


def _take(row: _Row, found: Transcripts, unusable: dict[Path, str], data: SpeechData) -> str:
    """Add the utterance of a row, or return what is wrong with it."""
    if row.path not in found.infos and row.path not in unusable:
        try:
            found.infos[row.path] = probe(row.path)
        except DataError as error:
            unusable[row.path] = error.problems[0].message
    problems = [unusable[row.path]] if row.path in unusable else []
    text = normalise(row.text, data)
    if not text:
        problems.append(
            f"nothing is left of the text {row.text!r}" if row.text else "text is empty"
        )
    if data.vocabulary and (odd := strangers(text, data.vocabulary)):
        problems.append(f"text has {odd}, which data.vocabulary lacks")
    if row.path in found.infos:
        length_s = found.infos[row.path].duration_s
        problems += _outside(row, length_s)
        if not problems:
            end_s = length_s if row.duration_s is None else row.start_s + row.duration_s
            duration_s = min(end_s, length_s) - row.start_s
            found.utterances.append(Utterance(row.path, row.start_s, duration_s, text))
            found.places.append(row.place)
    return "; ".join(problems)


def _outside(row: _Row, length_s: float) -> Iterator[str]:
    if row.start_s < 0:
        yield f"start = {row.start_s:g} s is before the file begins"
    elif row.start_s >= length_s:
        yield f"start = {row.start_s:g} s, but the file ends at {length_s:.3f} s"
    elif row.duration_s is not None and row.start_s + row.duration_s > length_s + _ROUNDING_S:
        end_s = row.start_s + row.duration_s
        yield f"start + duration = {end_s:.3f} s, but the file ends at {length_s:.3f} s"
    if row.duration_s is not None and row.duration_s <= 0:
        yield f"duration = {row.duration_s:g} s, expected more than 0"


def _rows(path: Path, bad_rows: list[str]) -> Iterator[_Row]:
    if path.is_dir():
        for transcript in sorted(path.rglob(f"*{TRANSCRIPT}")):
            yield from _librispeech_rows(transcript, bad_rows)
        return
    folder = path.parent
    for number, line in _lines(path, bad_rows):
        place = f"{path}:{number}"
        try:
            values = json.loads(line)
        except json.JSONDecodeError as error:
            bad_rows.append(f"{place}: no JSON ({error.msg} at column {error.colno})")
            continue
        if not isinstance(values, dict):
            bad_rows.append(f"{place}: expected an object like {{...}}, found {values!r:.60}")
        elif problems := list(_wrong_keys(values)):
            bad_rows.append(f"{place}: {'; '.join(problems)}")
        else:
            start_s, duration_s = float(values.get("start", 0.0)), values.get("duration")
            duration_s = None if duration_s is None else float(duration_s)
            audio = folder / Path(values["path"]).expanduser()
            yield _Row(place, audio, values["text"], start_s, duration_s)


def _wrong_keys(values: Mapping[str, Any]) -> Iterator[str]:
    absent = [key for key in _KEYS if key not in values]
    others = [key for key in values if key not in _KEYS]
    for key in absent:
        # Other keys are fine, but not one that was meant to be this one.
        meant = next((name for name in others if nearest(name, [key])), None)
        if meant is not None:
            yield f"unknown key {meant!r}, did you mean {key!r}?"
        elif key in ("path", "text"):
            yield f"{key!r} is missing, found {', '.join(map(repr, values)) or 'no keys'}"
    for key in ("path", "text"):
        if key in values and not isinstance(values[key], str):
            yield f"{key} must be text, found {values[key]!r:.60}"
    if values.get("path") == "":
        yield "path is empty"
    for key in ("start", "duration"):
        value = values.get(key, 0.0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not _is_sane(value):
            yield f"{key} must be a number of seconds, found {value!r:.60}"


def _is_sane(seconds: float) -> bool:
    return abs(seconds) < _LONGEST_S


def _librispeech_rows(transcript: Path, bad_rows: list[str]) -> Iterator[_Row]:
    known: set[str] = set()
    for number, line in _lines(transcript, bad_rows):
        name, _, text = line.partition(" ")
        place = f"{transcript}:{number}"
        if name in known:
            bad_rows.append(f"{place}: {name} has a text already")
            continue
        known.add(name)
        yield _Row(place, transcript.with_name(f"{name}.flac"), text)
    there = {path.stem for path in transcript.parent.glob("*.flac")}
    others = {path.name for path in transcript.parent.glob(f"*{TRANSCRIPT}")} - {transcript.name}
    if not others:
        bad_rows += [
            f"{transcript.with_name(f'{name}.flac')}: has no line in {transcript.name}"
            for name in sorted(there - known)
        ]


def _lines(path: Path, bad_rows: list[str]) -> Iterator[tuple[int, str]]:
    """Yield (number from 1, line) of a text file, empty lines left out."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        bad_rows.append(f"{path}: can't be read ({error.strerror})")
        return
    except UnicodeDecodeError as error:
        bad_rows.append(f"{path}: no text in UTF-8 (byte {error.start}); convert it")
        return
    # Not splitlines: JSON may hold other separators of lines inside a text.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, line.strip()
