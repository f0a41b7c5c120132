"""When a night ends: clock times across midnight and summer time, and durations."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.sweeps.deadline import DeadlineError, parse_budget, parse_deadline, parse_until


@pytest.fixture
def berlin(monkeypatch):
    """Local time is that of Berlin: summer time ended on 2026-10-25 and begins on 2027-03-28."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def utc(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("now", "text", "expected"),
    [
        ("2026-11-27 20:00", "07:30", "2026-11-28 06:30"),
        ("2026-11-27 20:00", "21:30", "2026-11-27 20:30"),  # 21:00 now in Berlin
        ("2026-11-27 20:00", "21:00", "2026-11-28 20:00"),  # now is over
        ("2026-11-27 20:00", "7:05", "2026-11-28 06:05"),
        ("2026-12-31 22:59", "00:00", "2026-12-31 23:00"),
        ("2026-11-27 20:00", "2026-11-28 07:30", "2026-11-28 06:30"),
        ("2026-11-27 20:00", "2026-11-28T07:30:15", "2026-11-28 06:30:15"),
        # The night has an hour more: the clock goes from 03:00 summer time back to 02:00.
        ("2026-10-24 20:00", "07:30", "2026-10-25 06:30"),
        ("2026-10-24 20:00", "02:30", "2026-10-25 00:30"),
        ("2026-10-25 00:45", "02:30", "2026-10-25 01:30"),
        # An hour less: there is no 02:30, which is 03:30.
        ("2027-03-27 20:00", "07:30", "2027-03-28 05:30"),
        ("2027-03-27 20:00", "02:30", "2027-03-28 01:30"),
    ],
)  # fmt: skip
def test_clock_times_are_the_next_local_ones(berlin, now, text, expected) -> None:
    assert parse_until(text, now=utc(now)) == utc(expected)
    assert parse_deadline(text, now=utc(now)) == utc(expected)


@given(now=st.floats(1.7e9, 1.9e9), hour=st.integers(0, 23), minute=st.integers(0, 59))
def test_a_clock_time_is_less_than_a_day_and_an_hour_away(now, hour, minute) -> None:
    moment = parse_until(f"{hour:02d}:{minute:02d}", now=now)
    assert now < moment <= now + 25 * 3600


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("25:00", "not a time: expected HH:MM"),
        ("07:60", "not a time"),
        ("0730", "not a time"),
        ("", "not a time"),
        ("tomorrow", "not a time"),
        ("2026-11-28", "not a time"),
        ("\x1b[31m07:30", "not a time"),
        ("２３:００", "not a time"),
        ("2026-11-27 20:59", "is over: it is 2026-11-27 21:00 now"),
        ("9999-12-31 00:00", "within a year"),
    ],
)
def test_other_times_are_refused_in_one_printable_line(berlin, text, message) -> None:
    with pytest.raises(DeadlineError, match=message) as caught:
        parse_until(text, now=utc("2026-11-27 20:00"))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("text", "hours"),
    [
        ("9 hours", 9), ("9h", 9), ("9 Hours", 9), ("90 minutes", 1.5), ("90min", 1.5), ("1h30", 1.5),
        ("1h30m", 1.5), ("1 h 30 min", 1.5), ("1.5 h", 1.5), ("1 day", 24), ("1 hour, 15 minutes", 1.25),
        ("3600s", 1),
    ],
)  # fmt: skip
def test_durations(text, hours) -> None:
    assert parse_budget(text) == hours * 3600
    assert parse_deadline(text, now=100.0) == 100.0 + hours * 3600


@pytest.mark.parametrize(
    "text", ["", "9", "h", "-3h", "0h", "9 weeks", "1d12", "1e3h", "nine hours", "400 days", "٣h"]
)
def test_other_durations_are_refused(text) -> None:
    with pytest.raises(DeadlineError, match=r"is not a duration|is out of range"):
        parse_budget(text)
