"""Rows of a table as clips: their audio found and opened, their speaker named; and what is wrong with others.

Owns the kinds of findings about a corpus. Free of torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from engine.config.errors import DataError, encodable
from engine.data.corpus.names import AudioNames
from engine.data.corpus.tables import Row, Table
from engine.data.files.audio_files import AudioInfo, probe
from engine.data.files.manifest_rows import outside

Kind = Literal[
    "rows", "missing", "unreadable", "empty", "short", "long", "text", "silent", "duplicate",
    "clipped", "ends", "pace", "repeated", "rate", "channels", "characters",
]  # fmt: skip
# Clips with these are left out of training and validation.
LEFT_OUT: Mapping[Kind, str] = {
    "rows": "rows that can't be understood",
    "missing": "rows whose audio is not there",
    "unreadable": "audio that can't be read completely",
    "empty": "rows without a text",
    "short": "clips shorter than the minimum (--min)",
    "long": "clips longer than the maximum (--max); cut recordings at silences with `sepdash data cut`, then "
    "transcribe the pieces",
    "text": "texts longer than the maximum (--max-chars)",
    "silent": "clips without sound",
    "duplicate": "clips that are there twice; the first is used",
}
# These are used as they are: a person should listen to them.
REPORTED: Mapping[Kind, str] = {
    "clipped": "clips with samples at full scale (recorded too loud)",
    "ends": "clips with long silence at an end, which a voice learns to imitate",
    "pace": "clips whose length does not fit their text; listen to them, it may be the text of another clip",
    "repeated": "texts that one speaker says several times",
    "rate": "more than one sampling rate; training converts all to data.rate_hz, and low rates sound dull",
    "channels": "clips with several channels, which are averaged",
    "characters": "characters in very few training texts, which a model hardly learns",
}
KINDS: Mapping[Kind, str] = {**LEFT_OUT, **REPORTED}
_PLAIN_FOLDERS = ("wavs", "wav", "audio", "audios", "clips")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a person should know; the message begins with the file or the row."""

    kind: Kind
    message: str

    def __post_init__(self) -> None:
        """Make bytes of file names that are no UTF-8 visible."""
        object.__setattr__(self, "message", encodable(self.message))


@dataclass(frozen=True, slots=True)
class Clip:
    """A part of an audio file with the text that is said in it; `name` is its short name in messages."""

    name: str
    info: AudioInfo
    start_s: float
    duration_s: float
    text: str
    speaker: str
    held_out: bool = False
    phonemes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Speakers:
    """Who speaks where a row does not say it: `name`, or with `by_folder` the folder of the file."""

    name: str
    by_folder: bool = False

    def of(self, row: Row, path: Path) -> str:
        """Return the speaker of a clip."""
        if row.speaker or not self.by_folder:
            return row.speaker or self.name
        parent = path.parent
        return (parent.parent if parent.name.lower() in _PLAIN_FOLDERS else parent).name


def clips_of(
    table: Table, names: AudioNames, *, speakers: Speakers, root: Path
) -> tuple[list[Clip], list[Finding]]:
    """Return the clips of the rows whose audio can be opened and whose text is not empty, and what is wrong.

    Of several rows for one part of a file, the first is kept.

    Args:
        table: the rows.
        names: the audio files of its folder.
        speakers: who speaks where a row does not say it.
        root: the folder that files are named from, in messages.
    """
    findings = [Finding("rows", row) for row in table.bad_rows]
    clips: list[Clip] = []
    known: dict[tuple[Path, float], tuple[str, Row]] = {}
    unusable: dict[Path, str] = {}
    infos: dict[Path, AudioInfo] = {}
    for row in table.rows:
        try:
            path = names.find(row.name)
        except ValueError as error:
            findings.append(Finding("missing", f"{row.place}: {error}"))
            continue
        name = _short(path, root)
        first = known.setdefault((path, row.start_s), (row.place, row))
        if first[1] is not row:
            same = "the same text as" if first[1].text == row.text else "another text than"
            findings.append(
                Finding("duplicate", f"{row.place}: {name} again, with {same} in {first[0]}")
            )
            continue
        if path not in infos and path not in unusable:
            try:
                infos[path] = probe(path)
            except DataError as error:
                unusable[path] = error.problems[0].message
        if path in unusable:
            findings.append(Finding("unreadable", unusable[path]))
            continue
        findings += (problems := list(_problems(row, infos[path], name=name)))
        if not problems:
            clips.append(_clip(row, infos[path], name=name, speaker=speakers.of(row, path)))
    return clips, findings


def _problems(row: Row, info: AudioInfo, *, name: str) -> Iterator[Finding]:
    places = list(outside(row.start_s, row.duration_s, length_s=info.duration_s))
    if places:
        yield Finding("rows", f"{row.place}: {'; '.join(places)}")
    elif not row.text.strip():
        yield Finding("empty", f"{row.place}: {name} has no text")


def _clip(row: Row, info: AudioInfo, *, name: str, speaker: str) -> Clip:
    end_s = info.duration_s if row.duration_s is None else row.start_s + row.duration_s
    if row.start_s or (row.duration_s is not None and end_s < info.duration_s - 0.05):
        name = f"{name} at {row.start_s:.2f} s"
    return Clip(
        name, info, row.start_s, duration_s=min(end_s, info.duration_s) - row.start_s, text=row.text,
        speaker=speaker, held_out=row.held_out, phonemes=row.phonemes,
    )  # fmt: skip


def _short(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)
