"""A session of a listening test: what is played, and which answers are recorded.

Until the last answer, nothing that a session gives out depends on which side is which: not the names and
sizes of sounds, not the words. Only the sounds differ.
"""

from __future__ import annotations

import functools
import hashlib
import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from engine.config.errors import DataError, Problem
from jobs.listening.audio import LEVEL_NOTE, Matched, Stimulus, match, wav
from jobs.listening.design import Mode, Trial, design
from jobs.listening.intervals import needed_trials
from jobs.listening.outcome import LEVELS
from jobs.listening.records import (
    Answer,
    Choice,
    SessionRecord,
    add_answer,
    add_session,
    now,
    read_sessions,
)
from jobs.listening.sources import Sides
from jobs.machine.lease import FileLock, LeaseError


@dataclass(frozen=True, slots=True)
class Material:
    """What a session compares: items that are audible and differ, and the identity of each side."""

    sides: Sides
    excerpt_s: float
    a_key: str
    b_key: str

    @property
    def pair(self) -> str:
        """Identifies the pair, whichever side comes first."""
        return _digest(*sorted((self.a_key, self.b_key)))


def prepare(sides: Sides, *, excerpt_s: float) -> Material:
    """Read all items once, and leave out those that can't be compared, with a note for each.

    Raises:
        DataError: when none is left.
    """
    usable: list[Stimulus] = []
    contents: list[tuple[str, str]] = []
    problems: list[Problem] = []
    for stimulus in sides.stimuli:
        try:
            matched = match(stimulus, excerpt_s=excerpt_s)
        except DataError as error:
            problems.extend(error.problems)
        else:
            usable.append(stimulus)
            contents.append((matched.a_content, matched.b_content))
    if not usable:
        raise DataError(problems)
    notes = (*sides.notes, *(f"skipped {problem}" for problem in problems))
    names = [stimulus.item for stimulus in usable]
    a_key, b_key = (_digest(*names, *side) for side in zip(*contents, strict=True))
    kept = replace(sides, stimuli=tuple(usable), notes=notes)
    return Material(kept, excerpt_s, a_key=a_key, b_key=b_key)


class Session:
    """A session that is open for answers, as a context manager; no other process can open it, too.

    Raises:
        LeaseError: on entry, when another process has a listening test open.
    """

    def __init__(
        self,
        folder: Path,
        record: SessionRecord,
        *,
        material: Material,
        clock: Callable[[], float] = now,
    ) -> None:
        self._folder = folder
        self._material = material
        self._clock = clock
        self._lock = FileLock(folder / "session.lock")
        self.record = record
        self._is_recorded = False
        self._trials = design(record.seed, record.trials, items=len(record.items), mode=record.mode)
        self._matched = functools.lru_cache(maxsize=2)(self._match)

    def __enter__(self) -> Session:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self._lock.acquire():
            raise LeaseError(
                f"a listening test is open in process {self._lock.holder()}; end it first"
            )
        known = {session.id: session for session in read_sessions(self._folder)}
        self._is_recorded = self.record.id in known
        self.record = known.get(self.record.id, self.record)
        return self

    def __exit__(self, *error: object) -> None:
        self._lock.release()

    @property
    def mode(self) -> Mode:
        """ABX or preference."""
        return self.record.mode

    @property
    def buttons(self) -> tuple[str, ...]:
        """What can be played: 1, 2 and in ABX mode x."""
        return ("1", "2", "x") if self.mode == "abx" else ("1", "2")

    @property
    def choices(self) -> tuple[str, ...]:
        """What can be answered: 1, 2 and in preference mode 0, no preference."""
        return ("1", "2") if self.mode == "abx" else ("1", "2", "0")

    @property
    def num_trials(self) -> int:
        """How many trials were planned."""
        return self.record.trials

    @property
    def pending(self) -> int | None:
        """The number of the trial to answer, from 0; None after the last one."""
        return None if self.record.is_complete else len(self.record.answers)

    def sound(self, which: str) -> bytes:
        """Return what `which` (1, 2 or x) sounds like in the pending trial, as a WAV file.

        All of a trial have equal size, rate, channels, length and loudness.
        """
        number, trial = self._pending_trial()
        if which not in self.buttons:
            raise ValueError(f"unknown sound {which!r}; expected {', '.join(self.buttons)}")
        matched = self._matched(trial.item)
        signal_CT = matched.a_CT if trial.side(which) == "a" else matched.b_CT
        return wav(
            signal_CT, matched.rate_hz, noise_key=(number, ord(which), *self.record.id.encode())
        )

    def answer(self, number: int, choice: str, *, plays: Mapping[str, int], seconds: float) -> None:
        """Record the answer to the pending trial: 1, 2 or 0; it is on the disk when this returns.

        Raises:
            ValueError: for another trial or another choice, or before all sounds were played.
            OSError: when the disk is full or not writable; the trial remains pending.
        """
        pending, trial = self._pending_trial()
        if number != pending:
            raise ValueError(f"trial {number + 1} is not pending; trial {pending + 1} is")
        if choice not in self.choices:
            raise ValueError(f"unknown answer {choice!r}; expected {', '.join(self.choices)}")
        if unheard := [which for which in self.buttons if plays.get(which, 0) < 1]:
            raise ValueError(f"play {' and '.join(which.upper() for which in unheard)} first")
        given: Choice = "none" if choice == "0" else trial.side(choice)
        answer = Answer(
            self.record.id,
            number,
            item=self.record.items[trial.item],
            first=trial.first,
            x=trial.side("x") if trial.x else "",
            answer=given,
            plays={which: int(plays[which]) for which in self.buttons},
            seconds=round(seconds, 1),
            time=self._clock(),
        )
        if not self._is_recorded:
            # Only now: a session without an answer would bind the next one to its number of trials.
            add_session(self._folder, self.record)
            self._is_recorded = True
        add_answer(self._folder, answer)
        self.record = replace(self.record, answers=(*self.record.answers, answer))

    def _pending_trial(self) -> tuple[int, Trial]:
        number = self.pending
        if number is None:
            raise ValueError("all trials were answered")
        return number, self._trials[number]

    def _match(self, item: int) -> Matched:
        return match(self._material.sides.stimuli[item], excerpt_s=self._material.excerpt_s)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a person asked for; None: the default, or that of the session that is continued."""

    mode: Mode
    listener: str
    trials: int | None = None
    seed: str | None = None


def open_session(folder: Path, material: Material, *, asked: Asked) -> Session:
    """Return the session to continue, or a new one where none of this listener, pair and mode is open.

    Raises:
        ValueError: when the open one has another number of trials or another seed.
    """
    mine = [
        session
        for session in read_sessions(folder)
        if (session.pair, session.mode, session.listener)
        == (material.pair, asked.mode, asked.listener)
    ]
    unfinished = next((session for session in mine if not session.is_complete), None)
    if unfinished is not None:
        _check_same(unfinished, asked)
        # It goes on with the sides as they were given then.
        swapped = unfinished.a_key != material.a_key
        return Session(folder, unfinished, material=_swapped(material) if swapped else material)
    seed = asked.seed if asked.seed is not None else secrets.token_hex(8)
    record = SessionRecord(
        secrets.token_hex(6),
        material.pair,
        mode=asked.mode,
        a=material.sides.a,
        b=material.sides.b,
        a_key=material.a_key,
        b_key=material.b_key,
        listener=asked.listener,
        trials=asked.trials or needed_trials(LEVELS[asked.mode, "exact"]),
        # A later session with the same seed has an order of its own: it was heard before.
        seed=f"{seed}-{len(mine)}" if mine else seed,
        items=tuple(stimulus.item for stimulus in material.sides.stimuli),
        level=LEVEL_NOTE,
        time=now(),
    )
    return Session(folder, record, material=material)


def _check_same(session: SessionRecord, asked: Asked) -> None:
    if asked.trials is not None and asked.trials != session.trials:
        raise ValueError(
            f"a session of {session.trials} trials is open ({len(session.answers)} answered); its number of "
            "trials can't change: leave out --trials to continue it"
        )
    if asked.seed is not None and asked.seed != session.seed.partition("-")[0]:
        raise ValueError(
            f"a session with another seed is open ({len(session.answers)} of {session.trials} trials "
            "answered): leave out --seed to continue it"
        )


def _swapped(material: Material) -> Material:
    sides = material.sides
    items = tuple(Stimulus(item.item, item.b, b=item.a) for item in sides.stimuli)
    return Material(
        replace(sides, a=sides.b, b=sides.a, stimuli=items),
        material.excerpt_s,
        a_key=material.b_key,
        b_key=material.a_key,
    )


def _digest(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
