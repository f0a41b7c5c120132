"""Writes points of curves and keeps their rollups true, also when the tail of a curve is cut off.

A rollup of level L sums up `ROLLUP_FACTOR ** L` updates: lowest, highest, sum and count of the finite
values, and the last of them. Points must come in order; one that is already there is passed over.
"""

from __future__ import annotations

import math
import sqlite3
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, groupby

from jobs.store.records import ROLLUP_FACTOR, ROLLUP_LEVELS

Point = tuple[int, float | None]

# Each statement lets another thread have the interpreter, training for one: many rows to a statement
# cost half the time of one.
_ROWS = 64
_INSERT_POINT = "INSERT INTO points (run, series, step, value) VALUES (?1, ?2, ?3, ?4)"
_INSERT_POINTS = _INSERT_POINT + "".join(
    f", (?1, ?2, ?{3 + 2 * row}, ?{4 + 2 * row})" for row in range(1, _ROWS)
)
_UPSERT_ROLLUP = """
    INSERT INTO rollups (run, series, level, bucket, low, high, total, count, last)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (run, series, level, bucket) DO UPDATE SET
        low = coalesce(min(low, excluded.low), low, excluded.low),
        high = coalesce(max(high, excluded.high), high, excluded.high),
        total = total + excluded.total,
        count = count + excluded.count,
        last = coalesce(excluded.last, last)
"""


def insert_points(
    connection: sqlite3.Connection,
    run_id: int,
    *,
    steps: Sequence[int],
    series: Mapping[str, Sequence[float]],
    units: Mapping[str, str],
) -> None:
    """Append points; `steps` rise, each series has one value for each of them, NaN is stored as NULL."""
    for name, values in series.items():
        series_id = _series_id(connection, run_id, name, units.get(name, ""))
        key = (run_id, series_id)
        skipped = bisect_right(steps, _newest(connection, key))
        kept = values if all(map(math.isfinite, values)) else [_finite(value) for value in values]
        points = list(zip(steps, kept, strict=True))[skipped:]
        _insert(connection, key, points)
        rows = _summaries(points, ROLLUP_FACTOR)
        for level in ROLLUP_LEVELS:
            connection.executemany(_UPSERT_ROLLUP, [(*key, level, *row) for row in rows])
            rows = _coarser(rows)


def _newest(connection: sqlite3.Connection, key: tuple[int, int]) -> int:
    sql = "SELECT coalesce(max(step), -1) FROM points WHERE run = ? AND series = ?"
    return int(connection.execute(sql, key).fetchone()[0])


def _insert(connection: sqlite3.Connection, key: tuple[int, int], points: list[Point]) -> None:
    full = len(points) // _ROWS * _ROWS
    for first in range(0, full, _ROWS):
        values = chain.from_iterable(points[first : first + _ROWS])
        connection.execute(_INSERT_POINTS, (*key, *values))
    connection.executemany(_INSERT_POINT, [(*key, *point) for point in points[full:]])


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def delete_after(connection: sqlite3.Connection, run_id: int, update: int) -> None:
    """Drop every point after `update`, and rebuild the buckets that the cut goes through."""
    connection.execute("DELETE FROM points WHERE run = ? AND step > ?", (run_id, update))
    for level in ROLLUP_LEVELS:
        width = ROLLUP_FACTOR**level
        connection.execute(
            "DELETE FROM rollups WHERE run = ? AND level = ? AND bucket >= ?",
            (run_id, level, update // width),
        )
    ids = connection.execute("SELECT id FROM series WHERE run = ?", (run_id,)).fetchall()
    for (series_id,) in ids:
        for level in ROLLUP_LEVELS:
            _rebuild(connection, (run_id, series_id, level), update // ROLLUP_FACTOR**level)


def _rebuild(connection: sqlite3.Connection, key: tuple[int, int, int], bucket: int) -> None:
    run_id, series_id, level = key
    width = ROLLUP_FACTOR**level
    sql = "SELECT step, value FROM points WHERE run = ? AND series = ? AND step BETWEEN ? AND ?"
    first = bucket * width
    points = connection.execute(sql, (run_id, series_id, first, first + width - 1)).fetchall()
    rows = _summaries(points, width)
    connection.executemany(_UPSERT_ROLLUP, [(*key, *row) for row in rows])


def _series_id(connection: sqlite3.Connection, run_id: int, name: str, unit: str) -> int:
    sql = "SELECT id FROM series WHERE run = ? AND name = ?"
    found = connection.execute(sql, (run_id, name)).fetchone()
    if found is None:
        connection.execute(
            "INSERT INTO series (run, name, unit) VALUES (?, ?, ?)", (run_id, name, unit)
        )
        found = connection.execute(sql, (run_id, name)).fetchone()
    return int(found[0])


Summary = tuple[int, float | None, float | None, float, int, float | None]


def _summaries(points: Iterable[Point], width: int) -> list[Summary]:
    """Sum up points bucket by bucket: (bucket, low, high, total, count, last)."""
    values: dict[int, list[float]] = {}
    for step, value in points:
        bucket = values.setdefault(step // width, [])
        if value is not None:
            bucket.append(value)
    return [
        (bucket, min(found), max(found), math.fsum(found), len(found), found[-1])
        if found
        else (bucket, None, None, 0.0, 0, None)
        for bucket, found in values.items()
    ]


def _coarser(rows: list[Summary]) -> list[Summary]:
    """Merge summaries into those of the next level."""
    merged: list[Summary] = []
    for bucket, group in groupby(rows, lambda row: row[0] // ROLLUP_FACTOR):
        _, lows, highs, totals, counts, lasts = zip(*group, strict=True)
        low = min((value for value in lows if value is not None), default=None)
        high = max((value for value in highs if value is not None), default=None)
        last = next((value for value in reversed(lasts) if value is not None), None)
        merged.append((bucket, low, high, math.fsum(totals), sum(counts), last))
    return merged
