"""Evaluations item by item: writes and reads the tables `evaluations` and `item_results`.

Values of one metric are a JSON list in the order of the items, null where an item has none: a row
for each value would be ten times as large, and `json_each` reads a list as well. Standard library
only, for the reader.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Mapping, Sequence

from jobs.store.records import EvaluationRecord

# Millionths of a decibel: beyond what any comparison needs, and half the bytes of full precision.
_DIGITS = 6


def insert_results(
    connection: sqlite3.Connection,
    evaluation: EvaluationRecord,
    results: Mapping[str, Sequence[float]],
) -> None:
    """Store one evaluation of a run and the values of its items; one that is there stays as it is."""
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


def delete_results_after(connection: sqlite3.Connection, run_id: int, update: int) -> None:
    """Drop every evaluation after `update`, with the values of its items and its clips."""
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
    return [EvaluationRecord(*row) for row in connection.execute(sql, (run_id,))]


def read_results(
    connection: sqlite3.Connection, run_id: int, updates: int, metric: str
) -> list[float | None]:
    """Return the value of each item at an update; empty when there is no such evaluation."""
    sql = "SELECT results FROM item_results WHERE run = ? AND updates = ? AND metric = ?"
    found = connection.execute(sql, (run_id, updates, metric)).fetchone()
    values: list[float | None] = json.loads(found[0]) if found else []
    return values


def _finite(values: Sequence[float]) -> list[float | None]:
    return [round(value, _DIGITS) if math.isfinite(value) else None for value in values]
