"""The rows of checkpoints: what the store says of them is what is on disk."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from jobs.store.records import CheckpointRecord

_INSERT = """
    INSERT OR REPLACE INTO checkpoints (run, kind, path, updates, metrics, size_bytes, created_at)
    VALUES (?, ?, ?, ?, ?, ?, ?)
"""


def insert_checkpoint(connection: sqlite3.Connection, one: CheckpointRecord) -> None:
    """Store a checkpoint, and delete the rows of its run whose checkpoints are no longer on disk."""
    connection.execute(_INSERT, _row(one))
    rows = connection.execute("SELECT id, path FROM checkpoints WHERE run = ?", (one.run,))
    gone = [(id_,) for id_, saved_path in rows if not Path(saved_path).exists()]
    connection.executemany("DELETE FROM checkpoints WHERE id = ?", gone)


def replace_checkpoints(
    connection: sqlite3.Connection, run_id: int, *, found: Sequence[CheckpointRecord]
) -> None:
    """Let the rows of the checkpoints of a run be these."""
    connection.execute("DELETE FROM checkpoints WHERE run = ?", (run_id,))
    connection.executemany(_INSERT, [_row(one) for one in found])


def _row(one: CheckpointRecord) -> tuple[int, str, str, int, str, int, float]:
    metrics = json.dumps(dict(one.metrics))
    return (one.run, one.kind, one.path, one.updates, metrics, one.size_bytes, one.created_at)
