"""Results of listening tests in words."""

from __future__ import annotations

from collections.abc import Sequence

from engine.config.errors import counted
from jobs.listening.design import Mode
from jobs.listening.intervals import TARGET, needed_correct, needed_trials
from jobs.listening.outcome import LEVELS, Outcome
from jobs.listening.results import PairResult
from tui.reports.formats import clean

MODES = {"abx": "ABX", "preference": "preference"}


def plan_lines(mode: Mode, trials: int) -> list[str]:
    """Return what a number of trials can decide, before the test."""
    level = LEVELS[mode, "exact"]
    needed, enough = needed_correct(trials, level), needed_trials(level)
    what = "correct answers" if mode == "abx" else "preferences for one side"
    find = "a listener who is correct" if mode == "abx" else "a listener who prefers one side"
    if needed > trials:
        return [
            f"{counted(trials, 'trial')} can't decide anything; at least 6 can, {enough} are recommended"
        ]
    lines = [f"{counted(trials, 'trial')}: {needed} or more {what} show a difference."]
    if trials < enough:
        lines.append(
            f"Fewer than {enough} trials find obvious differences only: {enough} find {find}"
        )
        lines.append("70 % of the time with a probability of 80 %.")
    return lines


def result_lines(result: PairResult, *, listener: str | None = None) -> list[str]:
    """Return the result of a pair: for one listener as "you", or for all of them."""
    a, b = clean(result.a), clean(result.b)
    lines = [f"{MODES[result.mode]}: A = {a}, B = {b}"]
    for one in result.listeners:
        if listener is None or one.listener == listener:
            you = one.listener == listener
            who = "You" if you else clean(one.listener)
            lines.append(sentence(one.outcome, who=who, names=(a, b)))
            lines += [f"  {note}" for note in _notes(one.outcome, who=who)]
    if listener is None and result.pooled is not None:
        lines += _pooled(result, names=(a, b))
    return [*lines, _items(result), f"Levels matched: {result.level}."]


def sentence(outcome: Outcome, *, who: str, names: tuple[str, str]) -> str:
    """Return the statement for a listener, with the numbers behind it."""
    mode, trials = outcome.tally.mode, counted(outcome.tally.trials, "trial")
    you = who == "You"
    numbers = _numbers(outcome, names=names)
    if outcome.finding == "heard" and mode == "abx":
        return f"{who} {'hear' if you else 'hears'} a difference: {numbers}."
    if outcome.finding == "heard":
        side = names[0] if outcome.low > 0.5 else names[1]
        return f"{who} {'prefer' if you else 'prefers'} {side}: {numbers}."
    start = "" if you else f"{who}: "
    if outcome.finding == "below chance":
        return f"{start}No verdict: {numbers}, significantly fewer than guessing gives."
    if outcome.finding == "undecided":
        return f"{start}Undecided after {trials}: {numbers}."
    if mode == "preference":
        return f"{start}No preference in {trials}: {numbers}."
    return f"{start}No difference heard in {trials}: {numbers}."


def _numbers(outcome: Outcome, *, names: tuple[str, str]) -> str:
    tally = outcome.tally
    interval = f"{outcome.level:.0%} interval {outcome.low:.0%} to {outcome.high:.0%}"
    if tally.mode == "abx":
        share = "" if outcome.share is None else f"{outcome.share:.0%}, "
        return f"{tally.hits} of {tally.trials} correct ({share}{interval})"
    decided = tally.hits + tally.misses
    ties = f", {tally.ties} without a preference" if tally.ties else ""
    if outcome.share is None:
        return f"no preference for either in {counted(tally.trials, 'trial')}"
    return f"{names[0]} in {tally.hits} of {decided} preferences ({outcome.share:.0%}, {interval}){ties}"


def _notes(outcome: Outcome, *, who: str) -> list[str]:
    """Return what a reader of the statement should know, a line each."""
    tally = outcome.tally
    notes = []
    if outcome.finding == "not heard" and tally.mode == "abx":
        verb = "hear" if who == "You" else "hears"
        notes.append(f"{who} {verb} it at most {outcome.most_heard:.0%} of the time above chance.")
    elif outcome.finding == "not heard":
        notes.append(f"A preference of {TARGET:.0%} or more is excluded.")
    elif outcome.finding == "undecided":
        notes.append("More trials can decide: run the same command again. All sessions count.")
    elif outcome.finding == "below chance":
        notes.append("Check which key means what.")
    if tally.sessions > 1:
        notes.append(
            f"{tally.sessions} sessions: the interval allows for stopping after any trial."
        )
    elif outcome.method == "anytime":
        notes.append(
            f"{tally.trials} of {tally.planned} planned trials: the interval allows for stopping early."
        )
    return notes


def _pooled(result: PairResult, *, names: tuple[str, str]) -> list[str]:
    outcome = result.pooled
    assert outcome is not None
    number = len(result.listeners)
    text = _numbers(outcome, names=names)
    if outcome.finding == "heard":
        verb = "hears a difference" if result.mode == "abx" else "has a preference"
        text = f"at least one of them {verb}: {text}"
    return [
        f"All {number} listeners: {text}.",
        f"  These are {outcome.tally.trials} trials of {number} listeners, not {outcome.tally.trials} listeners:",
        "  they speak for these listeners and items, not for people in general.",
    ]


def _items(result: PairResult) -> str:
    most = 12
    shown = result.items[:most]
    parts = [f"{clean(i.item)} {i.hits}/{i.hits + i.misses}" for i in shown]
    more = f", and {len(result.items) - most} more" if len(result.items) > most else ""
    what = "correct" if result.mode == "abx" else "for A"
    return f"By item ({what}): {', '.join(parts)}{more}."


def all_lines(results: Sequence[PairResult]) -> list[str]:
    """Return the results of several pairs, an empty line between them."""
    lines: list[str] = []
    for result in results:
        lines += ([""] if lines else []) + result_lines(result)
    return lines
