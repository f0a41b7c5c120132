"""Writes points of curves and keeps their rollups true, also when the tail of a curve is cut off.

A rollup of level L sums up `ROLLUP_FACTOR ** L` updates: lowest, highest, sum and count of the finite
values, and the last of them. Points must come in order; one that is already there is passed over.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterable, Mapping, Sequence

from jobs.store.records import ROLLUP_FACTOR, ROLLUP_LEVELS

Point = tuple[int, float | None]

_INSERT_POINT = "INSERT INTO points (run, series, step, value) VALUES (?, ?, ?, ?)"
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
        known = connection.execute(
            "SELECT max(step) FROM points WHERE run = ? AND series = ?", (run_id, series_id)
        ).fetchone()[0]
        newest = -1 if known is None else known
        points = [
            (int(step), float(value) if math.isfinite(value) else None)
            for step, value in zip(steps, values, strict=True)
            if step > newest
        ]
        connection.executemany(_INSERT_POINT, [(run_id, series_id, *point) for point in points])
        for level in ROLLUP_LEVELS:
            rows = _summaries(points, ROLLUP_FACTOR**level)
            key = (run_id, series_id, level)
            connection.executemany(_UPSERT_ROLLUP, [(*key, *row) for row in rows])


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
