"""When a night ends: `07:30`, `2026-11-28 07:30`, or so long from now: `9 hours`, `90 minutes`, `1h30`.

Clock times are local, so a night with a change to or from summer time has the length it really has.
"""

from __future__ import annotations

import re
from datetime import datetime, time, timedelta

_DAY_S = 86_400
_UNITS_S = {
    "d": _DAY_S, "day": _DAY_S, "h": 3600, "hr": 3600, "hour": 3600,
    "m": 60, "min": 60, "minute": 60, "s": 1, "sec": 1, "second": 1,
}  # fmt: skip
_LONGEST_S = 366 * _DAY_S
_CLOCK = re.compile(r"(\d{1,2}):(\d{2})", re.ASCII)
_AMOUNTS = re.compile(r"(?:\s*\d+(?:\.\d+)?\s*[a-z]+\s*,?)+(?:\s*\d+\s*)?", re.ASCII)
_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)", re.ASCII)


class DeadlineError(ValueError):
    """A text that is no time at which a night can end."""


def parse_deadline(text: str, *, now: float) -> float:
    """Return the Unix time of a clock time, or of the end of a duration that begins now.

    Raises:
        DeadlineError: when it is neither.
    """
    return parse_until(text, now=now) if ":" in text else now + parse_budget(text)


def parse_until(text: str, *, now: float) -> float:
    """Return the Unix time of a local clock time: the next one, or that of a given day.

    Args:
        text: `07:30` or `2026-11-28 07:30`.
        now: Unix time.

    Raises:
        DeadlineError: when it is neither, or over.
    """
    words = text.strip()
    today = datetime.fromtimestamp(now)
    if clock := _CLOCK.fullmatch(words):
        try:
            at = time(int(clock[1]), int(clock[2]))
        except ValueError:
            raise _not_a_time(text) from None
        moments = (
            moment
            for number in (0, 1, 2)
            for moment in _moments(datetime.combine(today + timedelta(days=number), at))
        )
        return min(moment for moment in moments if moment > now)
    try:
        moment = datetime.fromisoformat(words)
        if ":" not in words:
            raise _not_a_time(text)
        found = moment.timestamp()
    except (ValueError, OverflowError, OSError):
        raise _not_a_time(text) from None
    if found <= now:
        raise DeadlineError(f"{text!r} is over: it is {today:%Y-%m-%d %H:%M} now")
    if found > now + _LONGEST_S:
        raise DeadlineError(f"{text!r} is too far away: expected a time within a year from now")
    return found


def parse_budget(text: str) -> float:
    """Return the seconds of a duration like `9 hours`, `9h`, `90 minutes` or `1h30`.

    Raises:
        DeadlineError: when it is none, 0, or longer than a year.
    """
    words = text.strip().lower()
    seconds, last = 0.0, ""
    if not _AMOUNTS.fullmatch(words):
        raise _not_a_duration(text)
    for amount, unit in _AMOUNT.findall(words):
        # 1h30 is 1 h 30 min.
        unit = unit or {"h": "m", "m": "s"}.get(last[:1], "")
        name = unit if unit in _UNITS_S else unit.removesuffix("s")
        if name not in _UNITS_S:
            raise _not_a_duration(text)
        seconds, last = seconds + float(amount) * _UNITS_S[name], unit
    if not 0 < seconds <= _LONGEST_S:
        raise DeadlineError(
            f"{text!r} is out of range: expected more than 0 seconds and at most a year"
        )
    return seconds


def _moments(local: datetime) -> list[float]:
    """Return the Unix times of a local time: two of an hour that comes twice, when summer time ends.

    An hour that is left out, when it begins, is the same as one hour later.
    """
    moments = [local.replace(fold=fold).timestamp() for fold in (0, 1)]
    there = [moment for moment in moments if datetime.fromtimestamp(moment) == local]
    return there or moments[:1]


def _not_a_time(text: str) -> DeadlineError:
    return DeadlineError(
        f"{text!r} is not a time: expected HH:MM, like 07:30, or a date and a time, like "
        "'2026-11-28 07:30'"
    )


def _not_a_duration(text: str) -> DeadlineError:
    return DeadlineError(
        f"{text!r} is not a duration: expected a number and a unit, like '9 hours', 90min or 1h30"
    )
