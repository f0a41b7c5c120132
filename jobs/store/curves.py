"""Reads a curve at the resolution of a chart.

Level 0 is the points themselves, level L the rollups of `ROLLUP_FACTOR ** L` updates. The finest level
within a few times the requested number of points is read, and its buckets are merged to that number.
"""

# ruff: noqa: S608 (the SQL is composed of constants in this file; values are always bound)

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass

from jobs.store.records import ROLLUP_FACTOR, ROLLUP_LEVELS, Curve

# Maximum rows read per drawn point. It bounds the work, and a bucket is at most a quarter of a point.
_OVERSAMPLING = 4


_LARGEST = 1.7976931348623157e308
_LAST = 2**62


def _is_number(column: str) -> str:
    """Return SQL that holds for a finite number: null, text, bytes and infinity are none."""
    return f"({column} BETWEEN -{_LARGEST!r} AND {_LARGEST!r})"


def _finite(column: str) -> str:
    return f"iif({_is_number(column)}, {column}, NULL) AS {column}"


IS_NUMBER = _is_number("value")


# The JSON functions of SQLite print 15 digits, enough for a bucket of many points. Single points are
# exact: a float needs 17 digits, and SQLite's conversion a few more.
_POINTS = f"""
    SELECT '[' || group_concat(
        '[' || step || ',' || iif({IS_NUMBER}, printf('%!.20g', value), 'null') || ']'
    ) || ']' FROM (
        SELECT step, value FROM points
        WHERE run = ? AND series = ? AND step BETWEEN ? AND ? ORDER BY step
    )
"""
_BUCKETS = f"""
    SELECT json_group_array(json_array(bucket, low, high, total, count, last)) FROM (
        SELECT bucket, {_finite("low")}, {_finite("high")}, iif({_is_number("total")}, total, 0.0) AS total,
            iif(typeof(count) = 'integer', count, 0) AS count, {_finite("last")} FROM rollups
        WHERE run = ? AND series = ? AND level = ? AND bucket BETWEEN ? AND ? ORDER BY bucket
    )
"""

Row = tuple[int, float | None, float | None, float | None, int, float | None]


@dataclass(frozen=True, slots=True)
class SeriesKey:
    """One row of `series`."""

    run: int
    id: int
    name: str
    unit: str


def read_curve(
    connection: sqlite3.Connection, key: SeriesKey, *, first: int, last: int | None, max_points: int
) -> Curve:
    """Read the points of `key` from update `first` to `last`, at most about `max_points` of them."""
    start, end = _extent(connection, key)
    low = max(first, start)
    high = end if last is None else min(last, end)
    if high < low:
        return Curve(key.name, key.unit, bucket=1, updates=[], low=[], high=[], mean=[], last=[])
    level, merged = _choose(connection, key, low=low, high=high, max_points=max(1, max_points))
    rows = _rows(connection, key, level=level, low=low, high=high)
    return _to_curve(key, rows, merged=merged, width=ROLLUP_FACTOR**level)


def read_inverse_means(
    connection: sqlite3.Connection, key: SeriesKey, *, parts: int
) -> list[tuple[float, int]]:
    """Return the mean of 1 / value over each of `parts` equal parts of a curve, and its points.

    The mean of a rate over a bucket would hide its slow moments. The first point is left out where there
    are others; parts without points are, too.
    """
    start, end = _extent(connection, key)
    first = start + 1 if end > start else start
    rows = connection.execute(
        f"""
        SELECT (step - ?1) * ?2 / ?3, avg(1.0 / value), count(*) FROM points
        WHERE run = ?4 AND series = ?5 AND step BETWEEN ?1 AND {_LAST} AND value > 0 AND {IS_NUMBER}
        GROUP BY 1 ORDER BY 1
        """,
        (first, parts, max(1, end - first + 1), key.run, key.id),
    )
    return [(mean, count) for _, mean, count in rows]


def _extent(connection: sqlite3.Connection, key: SeriesKey) -> tuple[int, int]:
    # SQLite keeps what is no whole number as it is, and sorts it outside of these.
    where = f"FROM points WHERE run = ? AND series = ? AND step BETWEEN 0 AND {_LAST}"
    sql = f"SELECT (SELECT min(step) {where}), (SELECT max(step) {where})"
    start, end = connection.execute(sql, (key.run, key.id) * 2).fetchone()
    return (0, -1) if start is None else (start, end)


def _choose(
    connection: sqlite3.Connection, key: SeriesKey, *, low: int, high: int, max_points: int
) -> tuple[int, int]:
    """Return the level to read and the number of its buckets to merge into one point."""
    top = ROLLUP_LEVELS[-1]
    width = ROLLUP_FACTOR**top
    sql = "SELECT sum(count) FROM rollups WHERE run = ? AND series = ? AND level = ? AND bucket BETWEEN ? AND ?"
    counted = connection.execute(
        sql, (key.run, key.id, top, low // width, high // width)
    ).fetchone()[0]
    if (counted or 0) <= max_points:
        return 0, 1
    span = high - low + 1
    for level in (0, *ROLLUP_LEVELS):
        buckets = -(-span // ROLLUP_FACTOR**level)
        if min(buckets, counted) <= _OVERSAMPLING * max_points or level == top:
            return level, max(1, -(-buckets // max_points))
    raise AssertionError("the top level always fits")


def _rows(
    connection: sqlite3.Connection, key: SeriesKey, *, level: int, low: int, high: int
) -> list[Row]:
    """Read all rows as one value; points are exact to the bit.

    sqlite3 releases the interpreter lock at every row; a thread that reads thousands of rows while
    the screen is drawn would wait for it each time.
    """
    if level == 0:
        cursor = connection.execute(_POINTS, (key.run, key.id, low, high))
    else:
        width = ROLLUP_FACTOR**level
        cursor = connection.execute(_BUCKETS, (key.run, key.id, level, low // width, high // width))
    rows = json.loads(cursor.fetchone()[0] or "[]")
    if level == 0:
        return [(step, value, value, value, int(value is not None), value) for step, value in rows]
    return [tuple(row) for row in rows]


def _to_curve(key: SeriesKey, rows: Iterable[Row], *, merged: int, width: int) -> Curve:
    curve = Curve(
        key.name, key.unit, bucket=merged * width, updates=[], low=[], high=[], mean=[], last=[]
    )
    group: list[Row] = []
    for row in rows:
        if group and row[0] // merged != group[0][0] // merged:
            _append(curve, group, merged=merged, width=width)
            group = []
        group.append(row)
    if group:
        _append(curve, group, merged=merged, width=width)
    return curve


def _append(curve: Curve, group: list[Row], *, merged: int, width: int) -> None:
    curve.updates.append(group[0][0] // merged * merged * width)
    if len(group) == 1:
        _, low, high, total, count, last = group[0]
        mean = total / count if count and total is not None else None
    else:
        count = sum(row[4] for row in group)
        low = min((row[1] for row in group if row[1] is not None), default=None)
        high = max((row[2] for row in group if row[2] is not None), default=None)
        mean = sum(row[3] for row in group if row[3] is not None) / count if count else None
        last = next((row[5] for row in reversed(group) if row[5] is not None), None)
    curve.low.append(low)
    curve.high.append(high)
    curve.mean.append(mean)
    curve.last.append(last)
