"""A fixed sample of recordings whose texts are known, as they stand in a manifest: what a judge is asked about.

The same rows whatever the kind of data that reads the manifest, and whatever the seed of a run; rows without a
text are passed over. Free of torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from engine.config.errors import DataError, Problem
from engine.config.speech import SpeechData
from engine.data.files.audio_files import AudioInfo, probe
from engine.data.files.index import INDEX_NAME
from engine.data.files.manifest_rows import outside, rows_of
from engine.data.speech.transcripts import checked_transcripts, has_transcripts
from models.folders import walk
from models.user_paths import expanded

_KEYS = ("path", "start", "duration", "text")


@dataclass(frozen=True, slots=True)
class SpokenText:
    """A recording, or a part of a file, and its text as it was written.

    Attributes:
        info: of the file.
        start_s: where it begins in the file.
        duration_s: how long it is.
        text: what is said.
        place: "file:line" of its row.
    """

    info: AudioInfo
    start_s: float
    duration_s: float
    text: str
    place: str

    @property
    def key(self) -> str:
        """A name by which it is known wherever the files are."""
        return f"{self.info.path.name}:{self.start_s:.6f}-{self.duration_s:.6f} {self.text}"


@dataclass(frozen=True, slots=True)
class _Row:
    place: str
    path: Path
    text: str
    start_s: float
    duration_s: float | None


def spoken_texts(
    path: Path,
    *,
    most: int = 0,
    setting: str = "",
    suits: Callable[[float], bool] = lambda duration_s: True,
) -> list[SpokenText]:
    """Return a sample of the rows with a text, chosen by a hash of their names, in the order of that.

    Args:
        path: a manifest or a LibriSpeech folder; a folder without transcripts has no texts.
        most: how many; 0: all. A smaller sample is the beginning of a larger one.
        setting: names the path in messages.
        suits: whether a recording of a duration in seconds can be in the sample.

    Raises:
        DataError: with every invalid row of the sample, and with a manifest that can't be read.
    """
    if path.is_dir():
        found = [one for one in _of_folder(path, setting=setting) if suits(one.duration_s)]
        return sorted(found, key=lambda item: _rank(item.info.path, item.start_s, text=item.text))[
            : most or None
        ]
    if path.name == INDEX_NAME or path.suffix.lower() == ".tsv":
        return []
    bad_rows: list[str] = []
    rows = sorted(
        _rows(path, bad_rows), key=lambda row: _rank(row.path, row.start_s, text=row.text)
    )
    texts: list[SpokenText] = []
    unusable: list[str] = []
    for row in rows:
        if most and len(texts) + len(unusable) == most:
            break
        try:
            text = _opened(row)
            if suits(text.duration_s):
                texts.append(text)
        except DataError as error:
            unusable += [f"{row.place}: {problem.message}" for problem in error.problems]
    if bad_rows or unusable:
        raise DataError(Problem(setting, message) for message in [*bad_rows, *unusable])
    return texts


def _rows(path: Path, bad_rows: list[str]) -> Iterator[_Row]:
    for place, values in rows_of(path, bad_rows, keys=_KEYS, texts=("path",)):
        text, duration_s = values.get("text"), values.get("duration")
        if not isinstance(text, str) or not text.strip():
            continue
        yield _Row(
            place, path.parent / expanded(values["path"], beside=path.parent), text=" ".join(text.split()),
            start_s=float(values.get("start", 0.0)),
            duration_s=None if duration_s is None else float(duration_s),
        )  # fmt: skip


def _opened(row: _Row) -> SpokenText:
    info = probe(row.path)
    length_s = info.duration_s
    if problems := list(outside(row.start_s, row.duration_s, length_s=length_s)):
        raise DataError([Problem("", "; ".join(problems))])
    end_s = length_s if row.duration_s is None else row.start_s + row.duration_s
    return SpokenText(
        info, row.start_s, min(end_s, length_s) - row.start_s, text=row.text, place=row.place
    )


def _of_folder(path: Path, *, setting: str) -> Iterator[SpokenText]:
    if not has_transcripts(walk(path)):
        return
    raw = SpeechData(train=path, valid=path, case="keep", punctuation="keep")
    transcripts = checked_transcripts(path, raw, setting=setting)
    for utterance, place in zip(transcripts.utterances, transcripts.places, strict=True):
        info = transcripts.infos[utterance.path]
        yield SpokenText(
            info, utterance.start_s, utterance.duration_s, text=utterance.text, place=place
        )


def _rank(path: Path, start_s: float, *, text: str) -> bytes:
    return blake2b(f"{path.name} {start_s:.6f} {text}".encode("utf-8", "surrogateescape")).digest()
