"""Per-item results of evaluations: writes and reads the tables `evaluations` and `item_results`.

Values of one metric are a JSON list in the order of the items, null where an item has none: a row
per value would be ten times as large, and SQL can read the list with `json_each`. Of a bad item (an
estimate that is not finite) the list `non_finite`, with the endings of the other metrics, holds a 1:
its value is the worst of the metric, or null where the metric has no bound. Without such a list no item
is bad. Standard library only, for the reader.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Mapping, Sequence

from jobs.store.records import EvaluationRecord
from jobs.store.row_types import numbers_of, typed

# Millionths of a decibel: more than any comparison needs, at half the size of full precision.
_DIGITS = 6


def insert_results(
    connection: sqlite3.Connection,
    evaluation: EvaluationRecord,
    *,
    results: Mapping[str, Sequence[float]],
) -> None:
    """Store one evaluation of a run and the values of its items; an existing one is kept."""
    row = (evaluation.run, evaluation.updates, evaluation.train_seconds, evaluation.items_key)
    connection.execute(
        """
        INSERT OR IGNORE INTO evaluations (run, updates, train_seconds, items_key)
        VALUES (?, ?, ?, ?)
        """,
        row,
    )
    connection.executemany(
        "INSERT OR IGNORE INTO item_results (run, updates, metric, results) VALUES (?, ?, ?, ?)",
        [
            (evaluation.run, evaluation.updates, name, json.dumps(_finite(values)))
            for name, values in results.items()
        ],
    )


def delete_results_after(connection: sqlite3.Connection, run_id: int, *, update: int) -> None:
    """Delete every evaluation after `update`, with the values of its items and its clips."""
    for table in ("evaluations", "item_results", "clips"):
        connection.execute(
            f"DELETE FROM {table} WHERE run = ? AND updates > ?",  # noqa: S608 (three constants)
            (run_id, update),
        )


def read_evaluations(connection: sqlite3.Connection, run_id: int) -> list[EvaluationRecord]:
    """List the evaluations of a run, in order."""
    sql = """
        SELECT run, updates, train_seconds, items_key FROM evaluations WHERE run = ? ORDER BY updates
    """
    return [typed(EvaluationRecord, row) for row in connection.execute(sql, (run_id,))]


def read_results(
    connection: sqlite3.Connection, run_id: int, *, updates: int, metric: str
) -> list[float | None]:
    """Return the value of each item at an update; empty without such an evaluation."""
    sql = "SELECT results FROM item_results WHERE run = ? AND updates = ? AND metric = ?"
    row = connection.execute(sql, (run_id, updates, metric)).fetchone()
    return numbers_of(row[0]) if row else []


def _finite(values: Sequence[float]) -> list[float | None]:
    return [round(value, _DIGITS) if math.isfinite(value) else None for value in values]
