"""Looks at all speech of a run, and its text, before the run is queued. Free of torch."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Literal

from engine.config.errors import DataError, Problem
from engine.config.speech import SpeechData
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
        for setting, found in splits.items()
        for message in (*found.bad_rows, *_unusable(found, data, setting))
    ]
    problems += [Problem("data.valid", row) for row in unknown_characters(splits, data)]
    if problems:
        raise DataError(problems)


def read_splits(data: SpeechData) -> dict[Setting, Transcripts]:
    """Read what training and validation name; once, if they name the same."""
    train = read_transcripts(data.train, data)
    if data.valid == data.train:
        return {"data.train": train}
    return {"data.train": train, "data.valid": read_transcripts(data.valid, data)}


def unknown_characters(splits: dict[Setting, Transcripts], data: SpeechData) -> list[str]:
    """Describe the rows of validation with characters that the training texts lack."""
    train, valid = splits["data.train"], splits.get("data.valid")
    texts = [item.text for item in in_range(train.utterances, data)]
    if data.vocabulary or not texts or valid is None:
        return []
    return valid.check_vocabulary(vocabulary_of(data, texts), "no training text has")


def nothing_kept(found: Transcripts, data: SpeechData) -> str:
    """Describe a training set of which nothing is left; empty when something is."""
    if not found.utterances or in_range(found.utterances, data):
        return ""
    return f"{found.path}: nothing to train on, {LeftOut.of(found.utterances, data)}"


def speech_warnings(data: SpeechData) -> list[str]:
    """Return what is allowed but hardly meant: what is left out, and scores of training audio."""
    splits = read_splits(data)
    train = splits["data.train"]
    valid = splits.get("data.valid", train)
    warnings = []
    if left_out := str(LeftOut.of(train.utterances, data)):
        warnings.append(f"data.train: {left_out}")
    trained = {(_real(item.path), item.start_s) for item in in_range(train.utterances, data)}
    shared = sum((_real(item.path), item.start_s) in trained for item in valid.utterances)
    if shared:
        warnings.append(
            f"data.valid has {shared} of its {len(valid.utterances)} utterances from data.train: the "
            "scores are of audio that was trained on"
        )
    return warnings


def _unusable(found: Transcripts, data: SpeechData, setting: Setting) -> list[str]:
    problems: list[str] = []
    infos = found.infos.values()
    for check in (
        partial(check_all_rates, infos, data.rate_hz, setting=""),
        partial(check_ends, infos, setting=""),
    ):
        try:
            check()
        except DataError as error:
            problems += [problem.message for problem in error.problems]
    if setting == "data.train" and (nothing := nothing_kept(found, data)):
        problems.append(nothing)
    return problems


def _real(path: Path) -> str:
    return str(path.resolve())
