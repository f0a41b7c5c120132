"""The answers of listening tests: a file of JSON lines in the home, which is only ever appended to.

A line is on the disk before the next trial begins, so `kill -9` loses the pending trial at most. A line
that was cut off is ignored, and the next one begins on a line of its own.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from jobs.listening.design import Mode, Side
from jobs.listening.outcome import Tally

FILE = "answers.jsonl"
_VERSION = 1

Choice = Literal["a", "b", "none"]


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer.

    Attributes:
        session: the id of the session; `trial` counts from 0.
        item: name of the item.
        first: the side that was played as 1.
        x: the side that was played as X; empty in preference mode.
        answer: the side that X was taken for, or that was preferred.
        plays: how often 1, 2 and X were played; seconds from the first one to the answer.
    """

    session: str
    trial: int
    item: str
    first: Side
    x: str
    answer: Choice
    plays: dict[str, int]
    seconds: float
    time: float

    def counts_as(self, wanted: Side) -> Literal["hit", "miss", "tie"]:
        """Return what it is: a hit is the side that X was or, without X, a preference for `wanted`."""
        if self.answer == "none":
            return "tie"
        return "hit" if self.answer == (self.x or wanted) else "miss"


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """A session, with its answers in the order of the trials.

    Attributes:
        pair: identifies the audio that is compared, whichever side comes first.
        a, b: names of the sides; `a_key` tells which one comes first in the pair.
        trials: how many were planned.
        level: how the levels were matched.
    """

    id: str
    pair: str
    mode: Mode
    a: str
    b: str
    a_key: str
    b_key: str
    listener: str
    trials: int
    seed: str
    items: tuple[str, ...]
    level: str
    time: float
    answers: tuple[Answer, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether all trials were answered."""
        return len(self.answers) >= self.trials

    def tally(self, *, swapped: bool = False) -> Tally:
        """Count the answers; `swapped` counts preferences for B as hits."""
        n = Counter(answer.counts_as("b" if swapped else "a") for answer in self.answers)
        return Tally(self.mode, n["hit"], misses=n["miss"], ties=n["tie"], planned=self.trials)


def read_sessions(folder: Path) -> list[SessionRecord]:
    """Return all sessions in the order of their beginning; lines that can't be understood are ignored."""
    sessions: dict[str, SessionRecord] = {}
    answers: dict[str, dict[int, Answer]] = {}
    for line in _lines(folder / FILE):
        try:
            if line["record"] == "session" and line["version"] == _VERSION:
                fields = {key: line[key] for key in SessionRecord.__slots__ if key != "answers"}
                record = SessionRecord(**{**fields, "items": tuple(fields["items"])})
                sessions.setdefault(record.id, record)
            elif line["record"] == "answer":
                answer = Answer(**{key: line[key] for key in Answer.__slots__})
                # The first answer to a trial counts.
                answers.setdefault(answer.session, {}).setdefault(answer.trial, answer)
        except (KeyError, TypeError):
            continue
    return [_with_answers(record, answers.get(record.id, {})) for record in sessions.values()]


def add_session(folder: Path, record: SessionRecord) -> None:
    """Append the line of a new session.

    Raises:
        OSError: when the disk is full or not writable.
    """
    values = asdict(record)
    del values["answers"]
    _append(folder / FILE, {"record": "session", "version": _VERSION, **values})


def add_answer(folder: Path, answer: Answer) -> None:
    """Append an answer, on the disk when this returns; raises what `add_session` raises."""
    _append(folder / FILE, {"record": "answer", **asdict(answer)})


def now() -> float:
    """Return the time in Unix seconds, to the millisecond."""
    return round(time.time(), 3)


def _with_answers(record: SessionRecord, answers: Mapping[int, Answer]) -> SessionRecord:
    kept = tuple(answers[trial] for trial in sorted(answers) if trial < record.trials)
    return replace(record, answers=kept)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return
    for line in text.split("\n"):
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            yield value


def _append(path: Path, values: Mapping[str, Any]) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        size = os.fstat(file).st_size
        cut_off = size > 0 and os.pread(file, 1, size - 1) != b"\n"
        line = ("\n" if cut_off else "") + json.dumps(values, ensure_ascii=False) + "\n"
        data = line.encode()
        while data:
            data = data[os.write(file, data) :]
        os.fsync(file)
    finally:
        os.close(file)
