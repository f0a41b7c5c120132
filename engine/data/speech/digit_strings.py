"""Utterances of digits, joined from recordings of single ones: real speech whose text is known.

Input: <speaker>/<digit>_<take>.<extension>, as the Free Spoken Digit Dataset names them. An utterance
has one speaker. Takes 00 to 04 are for validation, all others for training; a string of digits
belongs to one of the two by its hash, whatever the seed, so no validation text is ever trained on.
Owns the drawing and the joining; free of torch. Letters: T samples.
"""

from __future__ import annotations

import re
import shutil
import struct
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from hashlib import blake2b
from math import exp, log
from pathlib import Path
from typing import Any, Literal

import numpy as np
import soundfile

from engine.config.errors import DataError, Problem
from engine.data.files.audio_files import AudioInfo, check_folder, probe_all, read_segment
from engine.data.speech.transcripts import Utterance, write_manifest
from models.folders import walk

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SHORTEST_S, LONGEST_S = 1.0, 15.0
NUM_TEST_TAKES = 5
_NAME = re.compile(r"(\d)_(\d+)\.(wav|flac|ogg)", re.IGNORECASE)
_LEAD_S = (0.05, 0.4)
_PAUSE_S = (0.05, 0.5)
_LEVEL_DB = (-12.0, 0.0)
_DIGIT_LEVEL_DB = (-3.0, 3.0)
_HISS_DB = (-75.0, -55.0)
_PEAK = 0.9
_HELD_OUT = 4  # one string in four is for validation
_MOST_DRAWS = 10_000
_MOST_KEPT = 4_096  # takes in memory, some 20 KiB each

SplitName = Literal["train", "valid"]
Takes = Mapping[str, Mapping[int, Sequence[AudioInfo]]]  # by speaker and digit


@dataclass(frozen=True, slots=True)
class DigitString:
    """What an utterance is made of: takes of one speaker, and the pause before each, in samples."""

    speaker: str
    digits: tuple[int, ...]
    takes: tuple[AudioInfo, ...]
    pauses: tuple[int, ...]
    length: int

    @property
    def text(self) -> str:
        """The digits as words."""
        return " ".join(WORDS[digit] for digit in self.digits)


def build_digit_strings(
    folder: Path,
    out: Path,
    *,
    num_train: int,
    num_valid: int,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write `train.jsonl` and `valid.jsonl` into a new folder, with FLAC files in train/ and valid/.

    Each row names the speaker, and the words with where they begin and end (`words_of`).
    Equal inputs and seeds give equal bytes, and a larger number begins with the same utterances.

    Args:
        folder: recordings of single digits.
        out: the folder to create; it must be absent or empty.
        num_train: number of training utterances.
        num_valid: number of validation utterances.
        seed: of everything drawn.
        progress: called with (utterances written, total utterances) after each.

    Raises:
        DataError: for recordings that are missing or can't be read, and if `out` is not empty.
    """
    takes, rate_hz = find_takes(folder)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        message = f"{out} exists and is not empty; choose another folder or remove it"
        raise DataError([Problem("", message)])
    aside = out.with_name(f".{out.name}.new")
    shutil.rmtree(aside, ignore_errors=True)
    sound_of = lru_cache(maxsize=_MOST_KEPT)(_read)
    try:
        done = 0
        numbers: dict[SplitName, int] = {"train": num_train, "valid": num_valid}
        for split, number in numbers.items():
            (aside / split).mkdir(parents=True)
            rows: list[Utterance] = []
            more: list[dict[str, Any]] = []
            for index in range(number):
                plan = draw_string(takes[split], rate_hz, split=split, seed=seed, index=index)
                path = aside / split / f"{index:06d}.flac"
                samples_T = join(
                    plan, sound_of, draw=_generator(seed, split, index=index, use="sound")
                )
                soundfile.write(path, samples_T, rate_hz, subtype="PCM_16")
                rows.append(Utterance(path, 0.0, duration_s=plan.length / rate_hz, text=plan.text))
                more.append({"speaker": plan.speaker, "words": words_of(plan, rate_hz)})
                done += 1
                progress(done, num_train + num_valid)
            write_manifest(aside / f"{split}.jsonl", rows, extra=more)
        if out.exists():
            out.rmdir()
        aside.rename(out)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def find_takes(folder: Path) -> tuple[dict[SplitName, Takes], int]:
    """Find the recordings of each split, by speaker and digit, and the rate that all of them have.

    Raises:
        DataError: when a split has no takes, or files are unreadable or of several rates.
    """
    check_folder(folder, setting="")
    found = walk(folder, depth=2)
    named = {
        path: match
        for path in found.files
        if path.parent != folder and (match := _NAME.fullmatch(path.name))
    }
    infos = {info.path: info for info in probe_all(named, setting="", problems=found.problems)}
    by_split: dict[SplitName, dict[str, dict[int, list[AudioInfo]]]] = {"train": {}, "valid": {}}
    for path, match in named.items():
        split: SplitName = "valid" if int(match[2]) < NUM_TEST_TAKES else "train"
        digits = by_split[split].setdefault(path.parent.name, defaultdict(list))
        digits[int(match[1])].append(infos[path])
    wanted: dict[SplitName, str] = {
        "train": "05 and above (for training)",
        "valid": "00 to 04 (for validation)",
    }
    problems = [
        Problem(
            "", f"{folder}: no takes {what}; expected files named <speaker>/<digit>_<take>.flac"
        )
        for split, what in wanted.items()
        if not by_split[split]
    ]
    rates = sorted({info.rate_hz for info in infos.values()})
    if len(rates) > 1:
        listed = ", ".join(f"{rate} Hz" for rate in rates)
        problems.append(
            Problem(
                "",
                f"{folder}: files with different sampling rates ({listed}); expected a single rate",
            )
        )
    if problems:
        raise DataError(problems)
    return dict(by_split), rates[0]


def is_held_out(digits: Sequence[int]) -> bool:
    """Return whether a string of digits is for validation only, decided by a hash."""
    return blake2b(bytes(digits), digest_size=8).digest()[0] % _HELD_OUT == 0


def draw_string(
    takes: Takes, rate_hz: int, *, split: SplitName, seed: int, index: int
) -> DigitString:
    """Draw an utterance: a length of 1 to 15 s, a speaker, and digits until the length is reached.

    Lengths are even on a logarithmic scale, so short utterances are as frequent as long ones are.

    Raises:
        DataError: when no string of the split fits, as with a single digit.
    """
    draw = _generator(seed, split, index=index, use="text")
    samples = partial(_samples, draw, rate_hz)
    speakers = sorted(takes)
    for _ in range(_MOST_DRAWS):
        target = round(exp(draw.uniform(log(SHORTEST_S), log(LONGEST_S))) * rate_hz)
        speaker = speakers[int(draw.integers(len(speakers)))]
        known = sorted(takes[speaker])
        digits: list[int] = []
        chosen: list[AudioInfo] = []
        pauses: list[int] = []
        length = 0
        while True:
            digit = known[int(draw.integers(len(known)))]
            files = takes[speaker][digit]
            take = files[int(draw.integers(len(files)))]
            pause = samples(_PAUSE_S if digits else _LEAD_S)
            if length + pause + take.frames > target:
                break
            digits.append(digit)
            chosen.append(take)
            pauses.append(pause)
            length += pause + take.frames
        if digits and is_held_out(digits) == (split == "valid"):
            return DigitString(
                speaker, tuple(digits), takes=tuple(chosen), pauses=tuple(pauses), length=target
            )
    message = f"no {split} utterance of {', '.join(speakers)} fits into {LONGEST_S:g} s; add shorter recordings or more digits"
    raise DataError([Problem("", message)])


def join(
    plan: DigitString, sound_of: Callable[[AudioInfo], np.ndarray], *, draw: np.random.Generator
) -> np.ndarray:
    """Return the sound of an utterance, float32 (T,): takes at levels of their own over a faint hiss.

    Args:
        plan: the takes and pauses.
        sound_of: reads a take, float32 (T,).
        draw: of levels and hiss.
    """
    samples_T = np.zeros(plan.length, dtype=np.float32)
    place = 0
    for take, pause in zip(plan.takes, plan.pauses, strict=True):
        place += pause
        gain = _gain(draw, _DIGIT_LEVEL_DB)
        samples_T[place : place + take.frames] += sound_of(take) * np.float32(gain)
        place += take.frames
    peak = float(np.abs(samples_T).max()) or 1.0
    samples_T *= _PEAK / peak * _gain(draw, _LEVEL_DB)
    hiss_T = draw.standard_normal(plan.length, dtype=np.float32) * _gain(draw, _HISS_DB)
    return np.asarray(np.clip(samples_T + hiss_T, -1, 1), dtype=np.float32)


def words_of(plan: DigitString, rate_hz: int) -> list[dict[str, str | float]]:
    """Return each word of an utterance with its start and end, in seconds from the beginning."""
    words: list[dict[str, str | float]] = []
    place = 0
    for digit, take, pause in zip(plan.digits, plan.takes, plan.pauses, strict=True):
        start = place + pause
        place = start + take.frames
        words.append(
            {
                "word": WORDS[digit],
                "start": round(start / rate_hz, 6),
                "end": round(place / rate_hz, 6),
            }
        )
    return words


def _read(take: AudioInfo) -> np.ndarray:
    samples_T: np.ndarray = read_segment(take, 0, frames=take.frames).mean(axis=0)
    return samples_T


def _generator(seed: int, split: SplitName, *, index: int, use: str) -> np.random.Generator:
    """Return the generator of one use in one utterance: Philox keyed by BLAKE2b."""
    key = blake2b(struct.pack("<qq", seed, index) + f"{split} {use}".encode(), digest_size=16)
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key.digest(), "little")))


def _samples(draw: np.random.Generator, rate_hz: int, bounds_s: tuple[float, float]) -> int:
    return round(draw.uniform(*bounds_s) * rate_hz)


def _gain(draw: np.random.Generator, bounds_db: tuple[float, float]) -> float:
    return float(10 ** (draw.uniform(*bounds_db) / 20))
