"""Checks all utterances and transcripts of a run before it is queued. Free of torch."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path
from typing import Literal

from engine.config.errors import DataError, Problem, counted
from engine.config.utterances import UtteranceData
from engine.data.checks.before_queue import header_warnings
from engine.data.files.audio_files import check_ends
from engine.data.files.rates import check_all_rates
from engine.data.speech.kept_lengths import LeftOut, in_range
from engine.data.speech.transcripts import Transcripts, read_transcripts
from engine.text.changes import changes_of, summarised
from engine.text.normalise import strangers, vocabulary_of

Setting = Literal["data.train", "data.valid"]
# Characters of a vocabulary that a message lists.
_MOST_TOLD = 60
# Rows with characters of no training text that are listed one by one.
_MOST_ROWS = 3


def check_speech(data: UtteranceData) -> None:
    """Check both splits: rows, files, rates, what is left to train on, the vocabulary.

    Raises:
        DataError: with everything that is wrong with either.
    """
    splits = read_splits(data)
    problems = [
        Problem(setting, message)
        for setting, transcripts in splits.items()
        for message in (*transcripts.bad_rows, *_unusable(transcripts, data, setting=setting))
    ]
    problems += [Problem("data.valid", row) for row in _first(unknown_characters(splits, data))]
    if lacking := lacking_in_share(splits, data):
        problems.append(Problem("data.share", lacking))
    if problems:
        raise DataError(problems)


def read_splits(data: UtteranceData) -> dict[Setting, Transcripts]:
    """Read the transcripts of both splits, only once if they are the same."""
    train = read_transcripts(data.train, data)
    if data.valid == data.train:
        return {"data.train": train}
    return {"data.train": train, "data.valid": read_transcripts(data.valid, data)}


def unknown_characters(splits: dict[Setting, Transcripts], data: UtteranceData) -> list[str]:
    """Describe the validation rows with characters that do not occur in the training texts of any share."""
    valid = splits.get("data.valid")
    everything = _vocabulary(splits, data.model_copy(update={"share": 1.0}))
    if data.vocabulary or not everything or valid is None:
        return []
    return valid.check_vocabulary(everything, "not in any training text")


def lacking_in_share(splits: dict[Setting, Transcripts], data: UtteranceData) -> str:
    """Describe the characters of validation texts that training texts have, but not those of `data.share`."""
    valid = splits.get("data.valid")
    everything = _vocabulary(splits, data.model_copy(update={"share": 1.0}))
    known = _vocabulary(splits, data)
    if data.vocabulary or not known or valid is None:
        return ""
    rows = [item for item in valid.utterances if set(item.text) & set(everything) - set(known)]
    if not rows:
        return ""
    odd = set().union(*(item.text for item in rows)) & set(everything)
    num_train = len(in_range(splits["data.train"].utterances, data))
    told = len(everything) <= _MOST_TOLD
    return (
        f"{data.share:g} leaves {counted(num_train, 'training utterance')} without "
        f"{strangers(''.join(odd), known)}, found in {counted(len(rows), 'validation text')}; set "
        f"data.vocabulary to the characters of all training texts{f' ({everything})' if told else ''}, or use a "
        "larger share"
    )


def _vocabulary(splits: dict[Setting, Transcripts], data: UtteranceData) -> str:
    texts = [item.text for item in in_range(splits["data.train"].utterances, data)]
    return vocabulary_of(data, texts) if texts else ""


def nothing_kept(transcripts: Transcripts, data: UtteranceData) -> str:
    """Describe a training set without usable utterances; empty if there are some."""
    if not transcripts.utterances or in_range(transcripts.utterances, data):
        return ""
    left_out = LeftOut.of(transcripts.utterances, data)
    return f"{transcripts.path}: no usable training utterances, {left_out}"


def text_notes(data: UtteranceData) -> list[str]:
    """Return what normalisation makes of the training texts; nothing where it changes none."""
    train = read_transcripts(data.train, data)
    kept = [row.get("phonemes", {}) for row in train.extras]
    changes, _ = changes_of([item.written for item in train.utterances], data, kept=kept)
    return [line] if (line := summarised(changes, data)) else []


def speech_warnings(data: UtteranceData) -> list[str]:
    """Return warnings: utterances that training skips, and validation on training audio."""
    splits = read_splits(data)
    train = splits["data.train"]
    valid = splits.get("data.valid", train)
    warnings = []
    for setting, transcripts in splits.items():
        warnings += header_warnings(transcripts.infos.values(), setting=setting)
        if transcripts.doubles:
            warnings.append(f"{setting}: {doubles_clause(transcripts)}")
        if transcripts.contradictions:
            number = counted(len(transcripts.contradictions), "row")
            warnings.append(
                f"{setting}: {number} with another text for a part of a file that is there before, for example "
                f"{transcripts.contradictions[0]}; `sepdash data check` lists all"
            )
    if left_out := str(LeftOut.of(train.utterances, data)):
        warnings.append(f"data.train: {left_out}")
    trained = {(_real(item.path), item.start_s) for item in in_range(train.utterances, data)}
    shared = sum((_real(item.path), item.start_s) in trained for item in valid.utterances)
    if shared:
        warnings.append(
            f"data.valid shares {shared} of its {len(valid.utterances)} utterances with data.train, so "
            "validation scores include training audio; use separate utterances"
        )
    return warnings


def voice_warnings(data: UtteranceData) -> list[str]:
    """Return the warnings of utterances, and speakers whose only utterance is its own reference."""
    splits = read_splits(data)
    warnings = speech_warnings(data)
    kept = in_range(splits["data.train"].utterances, data)
    counts = Counter(item.speaker for item in kept)
    alone = sorted(speaker for speaker, count in counts.items() if count == 1)
    if alone:
        names = ", ".join(alone[:3]) + (", ..." if len(alone) > 3 else "")
        warnings.append(
            f"data.train: {counted(len(alone), 'speaker')} with one utterance only ({names}), which is then its "
            "own reference clip; add utterances, or leave such speakers out"
        )
    if not any(counts):
        warnings.append(
            "data.train names no speakers, so all utterances count as one voice; add the key 'speaker' to the "
            "rows if there are several"
        )
    digits = sum(any(char.isdecimal() for char in item.text) for item in kept)
    if digits:
        warnings.append(
            f"data.train: {counted(digits, 'text')} with digits, which a voice learns as signs of their own; "
            "data.numbers = words spells them out"
        )
    return warnings


def doubles_clause(transcripts: Transcripts) -> str:
    """Say how many utterances are there twice; there must be some."""
    number = len(transcripts.doubles)
    verb = "repeats" if number == 1 else "repeat"
    return f"{counted(number, 'row')} {verb} an utterance with its text, for example {transcripts.doubles[0]}"


def _first(rows: list[str]) -> list[str]:
    """Return a few rows; of more, which are one mistake, the first one and how many there are."""
    if len(rows) <= _MOST_ROWS:
        return rows
    more = f"and so {len(rows) - 1:,} more rows, which `sepdash data check` lists"
    return [f"{rows[0]}, {more}"]


def _unusable(transcripts: Transcripts, data: UtteranceData, *, setting: Setting) -> list[str]:
    problems: list[str] = []
    infos = transcripts.infos.values()
    for check in (
        partial(check_all_rates, infos, data.rate_hz, setting=""),
        partial(check_ends, infos, setting=""),
    ):
        try:
            check()
        except DataError as error:
            problems += [problem.message for problem in error.problems]
    if setting == "data.train" and (nothing := nothing_kept(transcripts, data)):
        problems.append(nothing)
    return problems


def _real(path: Path) -> str:
    return str(path.resolve())
