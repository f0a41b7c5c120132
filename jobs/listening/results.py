"""Results of all listening tests of a home: by pair and mode, then by listener, then pooled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from jobs.listening.design import Mode, Side
from jobs.listening.outcome import Outcome, Tally, judge, pool
from jobs.listening.records import SessionRecord


@dataclass(frozen=True, slots=True)
class ListenerResult:
    """All sessions of one listener for one pair: everything counts, nothing is left out."""

    listener: str
    outcome: Outcome
    sessions: int


@dataclass(frozen=True, slots=True)
class ItemResult:
    """Answers for one item, of all listeners."""

    item: str
    hits: int
    misses: int
    ties: int


@dataclass(frozen=True, slots=True)
class PairResult:
    """One pair in one mode.

    Attributes:
        a, b: names of the sides, as the first session had them.
        pooled: the trials of all listeners together; None for a single one. Trials of one listener are
            not independent listeners, so this is about these listeners and items.
    """

    pair: str
    mode: Mode
    a: str
    b: str
    level: str
    listeners: tuple[ListenerResult, ...]
    items: tuple[ItemResult, ...]
    pooled: Outcome | None


def results(sessions: Sequence[SessionRecord]) -> list[PairResult]:
    """Return the results of all sessions with answers, in the order in which pairs were first heard."""
    groups: dict[tuple[str, Mode], list[SessionRecord]] = {}
    for session in sessions:
        if session.answers:
            groups.setdefault((session.pair, session.mode), []).append(session)
    return [_pair(group) for group in groups.values()]


def result_of(sessions: Sequence[SessionRecord], *, pair: str, mode: Mode) -> PairResult | None:
    """Return the result of one pair and mode; None before the first answer."""
    return next((r for r in results(sessions) if (r.pair, r.mode) == (pair, mode)), None)


def _pair(sessions: Sequence[SessionRecord]) -> PairResult:
    first = sessions[0]
    by_listener: dict[str, list[Tally]] = {}
    for session in sessions:
        swapped = session.a_key != first.a_key
        by_listener.setdefault(session.listener, []).append(session.tally(swapped=swapped))
    listeners = tuple(
        ListenerResult(name, judge(pool(tallies)), sessions=len(tallies))
        for name, tallies in by_listener.items()
    )
    everything = [tally for tallies in by_listener.values() for tally in tallies]
    return PairResult(
        first.pair,
        first.mode,
        a=first.a,
        b=first.b,
        level=first.level,
        listeners=listeners,
        items=_items(sessions, a_key=first.a_key),
        pooled=judge(pool(everything)) if len(listeners) > 1 else None,
    )


def _items(sessions: Sequence[SessionRecord], *, a_key: str) -> tuple[ItemResult, ...]:
    counts: dict[str, Counter[str]] = {}
    for session in sessions:
        wanted: Side = "a" if session.a_key == a_key else "b"
        for answer in session.answers:
            counts.setdefault(answer.item, Counter())[answer.counts_as(wanted)] += 1
    return tuple(
        ItemResult(item, n["hit"], misses=n["miss"], ties=n["tie"])
        for item, n in sorted(counts.items())
    )
