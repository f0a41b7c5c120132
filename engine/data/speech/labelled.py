"""Recordings with labels, for probes: who speaks, which words, and where; split by take. Free of torch.

What can be read, as `read_labelled` says: a manifest of utterances (`engine.data.speech.transcripts`)
with the keys `speaker`, `words` or a `text` of one word, `take` and `split`; a folder with
`train.jsonl` and `valid.jsonl`, as `sepdash data digits` writes it; or a folder of
<speaker>/<label>_<take>.<extension>. Owns what is a label, a unit and a split.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from math import ceil
from pathlib import Path
from typing import Any, Literal

from engine.config.errors import DataError, Problem
from engine.config.speech import SpeechData
from engine.data.files.audio_files import AudioInfo, find_audio, probe_all
from engine.data.speech.digit_strings import NUM_TEST_TAKES
from engine.data.speech.transcripts import Transcripts, checked_transcripts, has_transcripts
from models.folders import walk

Split = Literal["train", "test"]

TRAIN_NAME, TEST_NAME = "train.jsonl", "valid.jsonl"
_NAME = re.compile(r"(?P<label>.+)_(?P<take>\d+)")
_SPLITS: Mapping[str, Split] = {"train": "train", "test": "test", "valid": "test"}
_TESTED = 0.25  # share of the units of each speaker that is for testing where nothing else says so


@dataclass(frozen=True, slots=True)
class Part:
    """A labelled part of a recording; times are seconds from the recording's beginning."""

    label: str
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording, or a part of a file, by one speaker.

    Attributes:
        start_s: where it begins in the file.
        speaker: empty where unknown.
        unit: recordings of one take; what belongs together goes to one split, and counts once in intervals.
        parts: its words, in order; empty where they are not known.
        has_silence: whether what lies between the parts is silence, or what `parts` do not say.
    """

    info: AudioInfo
    start_s: float
    duration_s: float
    speaker: str
    unit: str
    split: Split
    parts: tuple[Part, ...] = ()
    has_silence: bool = False


@dataclass(frozen=True, slots=True)
class Labelled:
    """Recordings to probe with; `rule` says how they were told apart, `notes` what is missing."""

    recordings: tuple[Recording, ...]
    rule: str
    notes: tuple[str, ...] = field(default=())

    @property
    def speakers(self) -> tuple[str, ...]:
        """Names of the known speakers, in order."""
        return tuple(sorted({item.speaker for item in self.recordings} - {""}))

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels, in order."""
        return tuple(sorted({part.label for item in self.recordings for part in item.parts}))


def read_labelled(data: Path, test: Path | None = None, *, setting: str = "") -> Labelled:
    """Read what probes are trained and tested on.

    Args:
        data: a manifest or a folder; without `test` it is split.
        test: a manifest of test recordings; all of `data` is for training then.
        setting: the setting or option that names `data`, for messages.

    Raises:
        DataError: when nothing can be probed with it, with every invalid row.
    """
    if test is None and (data / TRAIN_NAME).is_file() and (data / TEST_NAME).is_file():
        data, test = data / TRAIN_NAME, data / TEST_NAME
    if not data.exists():
        raise DataError([Problem(setting, f"{data} does not exist; name a manifest or a folder")])
    if test is not None:
        rule = f"trained on {data.name}, tested on {test.name}"
        sides: tuple[tuple[Path, Split], ...] = (data, "train"), (test, "test")
        found = [
            replace(item, split=split)
            for path, split in sides
            for item in _read(path, setting=setting)[0]
        ]
    else:
        found, rule = _read(data, setting=setting)
    return _checked(found, rule, source=data, setting=setting)


def held_out_units(recordings: Sequence[Recording]) -> set[str]:
    """Return a quarter of the units of each speaker, chosen by a hash of their names."""
    by_speaker: dict[str, set[str]] = defaultdict(set)
    for item in recordings:
        by_speaker[item.speaker].add(item.unit)
    chosen: set[str] = set()
    for units in by_speaker.values():
        ranked = sorted(units, key=_hashed)
        if len(ranked) > 1:
            chosen.update(ranked[: ceil(len(ranked) * _TESTED)])
    return chosen


def limited(labelled: Labelled, most: Mapping[Split, int], *, seed: int = 0) -> Labelled:
    """Return at most so many recordings of each split, a sample by hash that is even over speakers."""
    kept: set[int] = set()
    for split, number in most.items():
        by_speaker: dict[str, list[int]] = defaultdict(list)
        for place, item in enumerate(labelled.recordings):
            if item.split == split:
                by_speaker[item.speaker].append(place)
        ranked = []
        for places in by_speaker.values():
            keyed = sorted(
                (_hashed(f"{seed} {labelled.recordings[k].unit} {k}"), k) for k in places
            )
            ranked += [(rank, *key) for rank, key in enumerate(keyed)]
        kept.update(place for _, _, place in sorted(ranked)[:number])
    chosen = tuple(item for place, item in enumerate(labelled.recordings) if place in kept)
    left = len(labelled.recordings) - len(chosen)
    note = f"a sample of {len(chosen)} of {len(labelled.recordings)} recordings"
    return replace(
        labelled, recordings=chosen, notes=(*labelled.notes, note) if left else labelled.notes
    )


def _read(path: Path, *, setting: str) -> tuple[list[Recording], str]:
    if path.is_dir() and not has_transcripts(walk(path)):
        return _of_names(path, setting=setting)
    # The texts are labels here: case and punctuation are not what is asked for.
    data = SpeechData(train=path, valid=path)
    transcripts = checked_transcripts(path, data, setting=setting)
    problems: list[str] = []
    found = list(_of_rows(transcripts, problems))
    if problems:
        raise DataError(Problem(setting, text) for text in problems)
    named = [row.get("split") for row in transcripts.extras]
    if all(name in _SPLITS for name in named):
        return found, "split as the manifest says"
    if any(name is not None for name in named):
        wrong = next(k for k, name in enumerate(named) if name not in _SPLITS)
        message = (
            f"{transcripts.places[wrong]}: split must be train, valid or test in every row or in none, "
            f"found {named[wrong]!r:.60}"
        )
        raise DataError([Problem(setting, message)])
    return _by_hash(
        found
    ), "a quarter of the takes of each speaker is for testing, chosen by a hash"


def _of_rows(transcripts: Transcripts, problems: list[str]) -> Iterator[Recording]:
    for utterance, row, place in zip(
        transcripts.utterances, transcripts.extras, transcripts.places, strict=True
    ):
        speaker, take = row.get("speaker", ""), row.get("take")
        if not isinstance(speaker, str):
            problems.append(f"{place}: speaker must be text, found {speaker!r:.60}")
            continue
        try:
            words = _words_of(row.get("words"), utterance.duration_s)
        except ValueError as error:
            problems.append(f"{place}: {error}")
            continue
        label = str(row.get("label", utterance.text))
        if words is None and " " not in label.strip():
            parts: tuple[Part, ...] = (Part(label, 0.0, utterance.duration_s),)
        else:
            parts = words or ()
        name = f"{utterance.path.parent.name}/{utterance.path.name}"
        unit = name if take is None else str(take)
        yield Recording(
            transcripts.infos[utterance.path], utterance.start_s, utterance.duration_s,
            speaker=speaker, unit=f"{speaker} {unit}",
            split=_SPLITS.get(str(row.get("split")), "train"), parts=parts,
            has_silence=words is not None,
        )  # fmt: skip


def _words_of(value: Any, duration_s: float) -> tuple[Part, ...] | None:
    if value is None:
        return None
    expected = 'words must be a list like [{"word": "one", "start": 0.31, "end": 0.72}, ...]'
    if not isinstance(value, list):
        raise ValueError(f"{expected}, found {value!r:.60}")
    parts = []
    for word in value:
        try:
            part = Part(str(word["word"]), float(word["start"]), float(word["end"]))
        except (TypeError, KeyError, ValueError, IndexError):
            raise ValueError(f"{expected}, found {word!r:.60}") from None
        if not 0 <= part.start_s < part.end_s <= duration_s + 0.01:
            raise ValueError(
                f"the word {part.label!r:.40} is from {part.start_s:g} to {part.end_s:g} s, but the "
                f"utterance is from 0 to {duration_s:.3f} s"
            )
        parts.append(part)
    return tuple(parts)


def _of_names(folder: Path, *, setting: str) -> tuple[list[Recording], str]:
    named = {path: match for path in find_audio(folder) if (match := _NAME.fullmatch(path.stem))}
    if not named:
        message = (
            f"{folder} has no files named <speaker>/<label>_<take>.<extension>, such as george/7_03.flac, "
            f"and no {TRAIN_NAME} with {TEST_NAME}; rename the files, or name a manifest (.jsonl) whose rows "
            "have path, speaker and text"
        )
        raise DataError([Problem(setting, message)])
    infos = {info.path: info for info in probe_all(named, setting=setting)}
    takes = {path: int(match["take"]) for path, match in named.items()}
    by_number = {take < NUM_TEST_TAKES for take in takes.values()} == {True, False}
    found = [
        Recording(
            infos[path],
            0.0,
            infos[path].duration_s,
            speaker=path.parent.name,
            unit=f"{path.parent.name} {match['take']}",
            split="test" if by_number and takes[path] < NUM_TEST_TAKES else "train",
            parts=(Part(match["label"], 0.0, infos[path].duration_s),),
        )
        for path, match in named.items()
    ]
    if by_number:
        return (
            found,
            f"takes 00 to {NUM_TEST_TAKES - 1:02} are for testing, all others for training",
        )
    rule = "a quarter of the takes of each speaker is for testing, chosen by a hash"
    return _by_hash(found), rule


def _by_hash(recordings: Sequence[Recording]) -> list[Recording]:
    tested = held_out_units(recordings)
    return [replace(item, split="test" if item.unit in tested else "train") for item in recordings]


def _checked(recordings: Sequence[Recording], rule: str, *, source: Path, setting: str) -> Labelled:
    labelled = Labelled(tuple(recordings), rule)
    notes = []
    wordless = sum(not item.parts for item in recordings)
    if wordless:
        notes.append(
            f"{wordless} of {len(recordings)} recordings have several words without their places (key "
            "'words'); they serve the speaker probe only"
        )
    if not labelled.speakers:
        notes.append("no speakers are named (key 'speaker'): no speaker probe, none left out")
    counts = {split: sum(item.split == split for item in recordings) for split in ("train", "test")}
    if not all(counts.values()):
        message = (
            f"{source}: {counts['train']} recordings to train a probe on and {counts['test']} to test it; "
            "both are needed. Add takes, or name a second manifest for testing"
        )
        raise DataError([Problem(setting, message)])
    if len(labelled.labels) < 2 and len(labelled.speakers) < 2:
        message = (
            f"{source}: neither two different words nor two speakers, so there is nothing to tell apart; "
            "rows need 'speaker', and 'text' of one word or 'words' with start and end"
        )
        raise DataError([Problem(setting, message)])
    return replace(labelled, notes=tuple(notes))


def _hashed(name: str) -> bytes:
    return blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest()
