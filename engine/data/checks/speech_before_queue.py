"""Checks all utterances and transcripts of a run before it is queued. Free of torch."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Literal

from engine.config.errors import DataError, Problem
from engine.config.speech import SpeechData
from engine.data.checks.before_queue import header_warnings
from engine.data.files.audio_files import check_ends
from engine.data.files.rates import check_all_rates
from engine.data.speech.kept_lengths import LeftOut, in_range
from engine.data.speech.transcripts import Transcripts, read_transcripts
from engine.text.normalise import vocabulary_of

Setting = Literal["data.train", "data.valid"]


def check_speech(data: SpeechData) -> None:
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
    problems += [Problem("data.valid", row) for row in unknown_characters(splits, data)]
    if problems:
        raise DataError(problems)


def read_splits(data: SpeechData) -> dict[Setting, Transcripts]:
    """Read the transcripts of both splits, only once if they are the same."""
    train = read_transcripts(data.train, data)
    if data.valid == data.train:
        return {"data.train": train}
    return {"data.train": train, "data.valid": read_transcripts(data.valid, data)}


def unknown_characters(splits: dict[Setting, Transcripts], data: SpeechData) -> list[str]:
    """Describe the validation rows with characters that do not occur in the training texts."""
    train, valid = splits["data.train"], splits.get("data.valid")
    texts = [item.text for item in in_range(train.utterances, data)]
    if data.vocabulary or not texts or valid is None:
        return []
    return valid.check_vocabulary(vocabulary_of(data, texts), "not in any training text")


def nothing_kept(transcripts: Transcripts, data: SpeechData) -> str:
    """Describe a training set without usable utterances; empty if there are some."""
    if not transcripts.utterances or in_range(transcripts.utterances, data):
        return ""
    left_out = LeftOut.of(transcripts.utterances, data)
    return f"{transcripts.path}: no usable training utterances, {left_out}"


def speech_warnings(data: SpeechData) -> list[str]:
    """Return warnings: utterances that training skips, and validation on training audio."""
    splits = read_splits(data)
    train = splits["data.train"]
    valid = splits.get("data.valid", train)
    warnings = []
    for setting, transcripts in splits.items():
        warnings += header_warnings(transcripts.infos.values(), setting=setting)
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


def _unusable(transcripts: Transcripts, data: SpeechData, *, setting: Setting) -> list[str]:
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
