"""Writes points of curves and keeps their rollups consistent, also when the end of a curve is deleted.

A rollup of level L summarises `ROLLUP_FACTOR ** L` updates: minimum, maximum, sum and count of the
finite values, and the last of them. Points must arrive in order; existing ones are skipped.
"""

from __future__ import annotations

import math
import sqlite3
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, groupby

from engine.metrics.registry import metric_of, stored_name
from jobs.store.records import ROLLUP_FACTOR, ROLLUP_LEVELS

Point = tuple[int, float | None]

# Every statement releases the interpreter lock, often to the training thread. With many rows per
# statement, inserting takes half the time.
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
    """Append points; `steps` increase, each series has one value per step, NaN is stored as NULL."""
    for name, values in series.items():
        series_id = _series_id(connection, run_id, name=name, unit=units.get(name, ""))
        key = (run_id, series_id)
        skipped = bisect_right(steps, _newest(connection, key))
        kept = values if all(map(math.isfinite, values)) else [_finite(value) for value in values]
        points = list(zip(steps, kept, strict=True))[skipped:]
        _insert(connection, key, points=points)
        rows = _summaries(points, ROLLUP_FACTOR)
        for level in ROLLUP_LEVELS:
            connection.executemany(_UPSERT_ROLLUP, [(*key, level, *row) for row in rows])
            rows = _coarser(rows)


def _newest(connection: sqlite3.Connection, key: tuple[int, int]) -> int:
    sql = "SELECT coalesce(max(step), -1) FROM points WHERE run = ? AND series = ?"
    return int(connection.execute(sql, key).fetchone()[0])


def _insert(connection: sqlite3.Connection, key: tuple[int, int], *, points: list[Point]) -> None:
    full = len(points) // _ROWS * _ROWS
    for first in range(0, full, _ROWS):
        values = chain.from_iterable(points[first : first + _ROWS])
        connection.execute(_INSERT_POINTS, (*key, *values))
    connection.executemany(_INSERT_POINT, [(*key, *point) for point in points[full:]])


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def delete_after(connection: sqlite3.Connection, run_id: int, *, update: int) -> None:
    """Delete every point after `update`, and rebuild the buckets that contain it."""
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
            _rebuild(connection, (run_id, series_id, level), bucket=update // ROLLUP_FACTOR**level)


def set_best(connection: sqlite3.Connection, run_id: int) -> None:
    """Set the best values of a run to those of its evaluations in the store."""
    row = connection.execute("SELECT metric FROM runs WHERE id = ?", (run_id,)).fetchone()
    if row is None:
        return
    for column, name in (("best", row[0]), ("best_ema", stored_name(row[0], ema=True))):
        best = "max" if metric_of(row[0]).rises else "min"
        connection.execute(
            f"""
            UPDATE runs SET {column} = (
                SELECT {best}(value) FROM points JOIN series ON series.id = points.series
                WHERE points.run = ?1 AND series.run = ?1 AND series.name = ?2
            ) WHERE id = ?1
            """,  # noqa: S608 (constants)
            (run_id, name),
        )


def _rebuild(connection: sqlite3.Connection, key: tuple[int, int, int], *, bucket: int) -> None:
    run_id, series_id, level = key
    width = ROLLUP_FACTOR**level
    sql = "SELECT step, value FROM points WHERE run = ? AND series = ? AND step BETWEEN ? AND ?"
    first = bucket * width
    points = connection.execute(sql, (run_id, series_id, first, first + width - 1)).fetchall()
    rows = _summaries(points, width)
    connection.executemany(_UPSERT_ROLLUP, [(*key, *row) for row in rows])


def _series_id(connection: sqlite3.Connection, run_id: int, *, name: str, unit: str) -> int:
    sql = "SELECT id FROM series WHERE run = ? AND name = ?"
    row = connection.execute(sql, (run_id, name)).fetchone()
    if row is None:
        connection.execute(
            "INSERT INTO series (run, name, unit) VALUES (?, ?, ?)", (run_id, name, unit)
        )
        row = connection.execute(sql, (run_id, name)).fetchone()
    return int(row[0])


Summary = tuple[int, float | None, float | None, float, int, float | None]


def _summaries(points: Iterable[Point], width: int) -> list[Summary]:
    """Summarise points per bucket: (bucket, low, high, total, count, last)."""
    values: dict[int, list[float]] = {}
    for step, value in points:
        bucket = values.setdefault(step // width, [])
        if value is not None:
            bucket.append(value)
    return [
        (bucket, min(finite), max(finite), math.fsum(finite), len(finite), finite[-1])
        if finite
        else (bucket, None, None, 0.0, 0, None)
        for bucket, finite in values.items()
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
