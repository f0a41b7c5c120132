"""Writes the run store: creates and migrates it, and moves runs from state to state.

Every method is one transaction; `transaction()` groups several. One writer for each thread.
"""

# ruff: noqa: S608 (column names come from code, never from a user; values are always bound)

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from jobs.store.checkpoints import insert_checkpoint, replace_checkpoints
from jobs.store.errors import StoreError, StoreUnavailable, failed, is_locked
from jobs.store.needs import CLAIMABLE
from jobs.store.points import delete_after, insert_points, set_best
from jobs.store.records import (
    CheckpointRecord,
    ClipRecord,
    EvaluationRecord,
    RunState,
    SystemRecord,
)
from jobs.store.results import delete_results_after, insert_results
from jobs.store.schema import SCHEMA_VERSION, check_version
from models.private_files import ensure_private

# Timeout of a writer that waits for another one.
_BUSY_S = 30.0


class StoreWriter:
    """A connection that writes to the store at `path`; close it, or use it as a context manager.

    Raises:
        StoreError: when the store is from a newer program, unreadable, locked for long, or the disk
            is full.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        ensure_private(path)
        # Threads may pass a writer on but must not share it; the caller ensures that.
        self._connection = sqlite3.connect(
            path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
        )
        try:
            self._prepare_patiently()
        except BaseException:
            self._connection.close()
            raise

    def _prepare_patiently(self) -> None:
        """Prepare the file, again while other processes create it: SQLite refuses that without waiting."""
        deadline = time.monotonic() + _BUSY_S
        while True:
            try:
                return self._prepare()
            except StoreUnavailable as error:
                if not is_locked(error) or time.monotonic() >= deadline:
                    raise
                time.sleep(0.05)

    def _prepare(self) -> None:
        version = check_version(self._connection, self.path)
        with self._worded():
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.execute("PRAGMA foreign_keys = ON")
        if version < SCHEMA_VERSION:
            # Here, since sqlite_utils loads pandas where that is installed: most of the start of a process.
            from jobs.store.migrations import migrate

            with self.transaction():
                migrate(self._connection)

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Group writes into one atomic transaction. Can be nested."""
        undo: tuple[str, ...]
        with self._worded():
            if not self._connection.in_transaction:
                # IMMEDIATE: a transaction that starts by reading can't wait for the write lock later.
                self._connection.execute("BEGIN IMMEDIATE")
                undo, keep = ("ROLLBACK",), "COMMIT"
            else:
                # Inner transactions may share a name: SQLite means the innermost.
                self._connection.execute("SAVEPOINT inner_one")
                undo, keep = ("ROLLBACK TO inner_one", "RELEASE inner_one"), "RELEASE inner_one"
            try:
                yield self._connection
                self._connection.execute(keep)
            except BaseException:
                # An error such as a full disk may have rolled everything back already.
                for statement in undo if self._connection.in_transaction else ():
                    self._connection.execute(statement)
                raise

    @contextmanager
    def _worded(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.IntegrityError:
            raise
        except sqlite3.DatabaseError as error:
            raise failed(self.path, error, doing="written") from error

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a query, without waiting for other writers."""
        with self._worded():
            return self._connection.execute(sql, values).fetchall()

    def insert_run(self, fields: Mapping[str, Any]) -> int:
        """Insert a run at the end of the queue and return its id.

        Raises:
            StoreError: when the name is taken.
        """
        with self.transaction() as connection:
            taken = connection.execute(
                "SELECT id FROM runs WHERE name = ?", (fields["name"],)
            ).fetchone()
            if taken is not None:
                raise StoreError(
                    f"a run named {fields['name']!r} already exists (id {taken[0]}); choose another name"
                )
            row = {
                "state": "queued",
                "position": self.last_position() + 1.0,
                "created_at": time.time(),
                **fields,
            }
            names, marks = ", ".join(row), ", ".join("?" * len(row))
            inserted = connection.execute(
                f"INSERT INTO runs ({names}) VALUES ({marks})", tuple(row.values())
            )
            return int(inserted.lastrowid or 0)

    def keep_ids_above(self, run_id: int) -> None:
        """Give no later run an id up to this one: folders of runs of another store may lie there."""
        with self.transaction() as connection:
            row = connection.execute(
                "SELECT seq FROM sqlite_sequence WHERE name = 'runs'"
            ).fetchone()
            if row is None:
                connection.execute(
                    "INSERT INTO sqlite_sequence (name, seq) VALUES ('runs', ?)", (run_id,)
                )
            elif row[0] < run_id:
                connection.execute(
                    "UPDATE sqlite_sequence SET seq = ? WHERE name = 'runs'", (run_id,)
                )

    def last_position(self) -> float:
        """Return the highest queue position of any run so far."""
        return float(self.rows("SELECT coalesce(max(position), 0) FROM runs")[0][0])

    def move(
        self, run_id: int, to: RunState, from_states: Sequence[RunState], **fields: Any
    ) -> bool:
        """Move a run to another state if it is in one of `from_states`; return whether it was.

        `fields` are columns of `runs` that change with the state.
        """
        columns = {"state": to, **fields}
        marks = ", ".join("?" * len(from_states))
        return self._update(
            columns, f"id = ? AND state IN ({marks})", values=(run_id, *from_states)
        )

    def move_claimed(self, run_id: int, to: RunState, *, claim: int | None, **fields: Any) -> bool:
        """Move a running run that the worker `claim` has claimed; return whether it was that worker's.

        A worker makes one run at a time, so its id names the claim. None is a run that no worker has.
        """
        return self._update(
            {"state": to, **fields},
            "id = ? AND state = 'running' AND worker IS ?",
            values=(run_id, claim),
        )

    def update_run(self, run_id: int, **fields: Any) -> bool:
        """Change columns of a run other than its state; return whether the run exists."""
        return self._update(fields, "id = ?", values=(run_id,))

    def _update(self, columns: Mapping[str, Any], where: str, *, values: Sequence[Any]) -> bool:
        assignments = ", ".join(f"{name} = ?" for name in columns)
        with self.transaction() as connection:
            done = connection.execute(
                f"UPDATE runs SET {assignments} WHERE {where}", (*columns.values(), *values)
            )
        return done.rowcount > 0

    def note_best(self, run_id: int, values: Mapping[str, float], *, lower: bool) -> None:
        """Keep the better of the old and new values of columns of a run; NaN is ignored."""
        better = "min" if lower else "max"
        with self.transaction() as connection:
            for name, value in values.items():
                connection.execute(
                    f"UPDATE runs SET {name} = coalesce({better}({name}, ?1), {name}, ?1) WHERE id = ?2",
                    (value, run_id),
                )

    def claim(self, worker: int, *, leave: Collection[int] = ()) -> int | None:
        """Claim the first queued run that can start for a worker and mark it running, but none of `leave`.

        None when the queue is empty, or every queued run waits for runs that have not finished.
        """
        with self.transaction() as connection:
            row = connection.execute(
                f"SELECT id FROM runs WHERE {CLAIMABLE} AND id NOT IN ({', '.join('?' * len(leave))}) "
                "ORDER BY position, id LIMIT 1",
                tuple(leave),
            ).fetchone()
            if row is None:
                return None
            now = time.time()
            connection.execute(
                """
                UPDATE runs SET state = 'running', stopping = 0, worker = ?, pid = NULL, pid_token = '',
                    attempts = attempts + 1, started_at = coalesce(started_at, ?), ended_at = NULL,
                    heartbeat_at = ?, speed = NULL, message = '' WHERE id = ?
                """,
                (worker, now, now, row[0]),
            )
        return int(row[0])

    def delete_run(self, run_id: int) -> bool:
        """Delete a run that is not running, with all its rows; return whether it was deleted."""
        with self.transaction() as connection:
            done = connection.execute(
                "DELETE FROM runs WHERE id = ? AND state != 'running'", (run_id,)
            )
        return done.rowcount > 0

    def reorder(self, run_ids: Sequence[int]) -> None:
        """Put these queued runs in the given order, within the queue positions they already have."""
        marks = ", ".join("?" * len(run_ids))
        with self.transaction() as connection:
            rows = connection.execute(
                f"SELECT position FROM runs WHERE id IN ({marks}) ORDER BY position, id",
                tuple(run_ids),
            ).fetchall()
            places = [position for (position,) in rows]
            if len(set(places)) < len(places):
                places = [places[0] + index for index in range(len(places))]
            connection.executemany(
                "UPDATE runs SET position = ? WHERE id = ?", list(zip(places, run_ids, strict=True))
            )

    def add_points(
        self,
        run_id: int,
        *,
        steps: Sequence[int],
        series: Mapping[str, Sequence[float]],
        units: Mapping[str, str],
    ) -> None:
        """Append points of curves and update their rollups; existing steps are skipped."""
        with self.transaction() as connection:
            insert_points(connection, run_id, steps=steps, series=series, units=units)

    def truncate_after(self, run_id: int, update: int) -> None:
        """Delete every point and evaluation after `update`, where the run resumes; its best is that of the rest."""
        with self.transaction() as connection:
            delete_after(connection, run_id, update=update)
            delete_results_after(connection, run_id, update=update)
            set_best(connection, run_id)

    def add_results(
        self, evaluation: EvaluationRecord, results: Mapping[str, Sequence[float]]
    ) -> None:
        """Store the per-item results of an evaluation: metric -> values, NaN for none."""
        with self.transaction() as connection:
            insert_results(connection, evaluation, results=results)

    def add_clips(self, clips: Sequence[ClipRecord]) -> None:
        """Store the paths of audio clips; an existing path is replaced."""
        with self.transaction() as connection:
            connection.executemany(
                """
                INSERT OR REPLACE INTO clips
                    (run, updates, item, kind, path, spectrogram, text, created_at)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?)
                """,
                [
                    (c.run, c.updates, c.item, c.kind, c.path, c.spectrogram, c.text, time.time())
                    for c in clips
                ],
            )

    def add_event(
        self,
        run_id: int | None,
        level: Literal["info", "warning", "error"],
        *,
        kind: str,
        message: str,
        details: Mapping[str, Any] | None = None,
        time_s: float | None = None,
    ) -> None:
        """Store an event of a run, or of a worker (`run_id` None), of a Unix time or of now."""
        text = json.dumps(dict(details or {}), default=str)
        with self.transaction() as connection:
            connection.execute(
                "INSERT INTO events (run, time, level, kind, message, details) VALUES (?, ?, ?, ?, ?, ?)",
                (run_id, time.time() if time_s is None else time_s, level, kind, message, text),
            )

    def has_event(self, run_id: int, *, time_s: float, message: str) -> bool:
        """Return whether a run has this event of this time."""
        sql = "SELECT 1 FROM events WHERE run = ? AND time = ? AND message = ?"
        return bool(self.rows(sql, (run_id, time_s, message)))

    def set_checkpoints(self, run_id: int, found: Sequence[CheckpointRecord]) -> None:
        """Let the rows of the checkpoints of a run be these, as they were found on disk."""
        with self.transaction() as connection:
            replace_checkpoints(connection, run_id, found=found)

    def add_checkpoint(
        self,
        run_id: int,
        kind: str,
        *,
        path: str,
        updates: int,
        metrics: Mapping[str, float],
        size_bytes: int,
    ) -> None:
        """Store a checkpoint, and delete the rows of checkpoints no longer on disk."""
        one = CheckpointRecord(
            run_id, kind, path, updates=updates, metrics=dict(metrics), size_bytes=size_bytes,
            created_at=time.time(),
        )  # fmt: skip
        with self.transaction() as connection:
            insert_checkpoint(connection, one)

    def add_system(self, sample: SystemRecord) -> None:
        """Store one system sample."""
        names = SystemRecord.__dataclass_fields__
        with self.transaction() as connection:
            connection.execute(
                f"INSERT INTO system ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})",
                tuple(getattr(sample, name) for name in names),
            )

    def forget_system(self, before: float) -> None:
        """Delete system samples older than a Unix time."""
        with self.transaction() as connection:
            connection.execute("DELETE FROM system WHERE time < ?", (before,))

    def add_worker(self, device: str, *, pid: int, token: str) -> int:
        """Register a worker, replacing an earlier one on its device; return its id."""
        with self.transaction() as connection:
            connection.execute("DELETE FROM workers WHERE device = ?", (device,))
            cursor = connection.execute(
                "INSERT INTO workers (device, pid, pid_token, started_at) VALUES (?, ?, ?, ?)",
                (device, pid, token, time.time()),
            )
        return int(cursor.lastrowid or 0)

    def note_current(self, worker: int, *, run_id: int | None) -> None:
        """Store the current run of a worker."""
        with self.transaction() as connection:
            connection.execute(
                "UPDATE workers SET run = (SELECT id FROM runs WHERE id = ?) WHERE id = ?",
                (run_id, worker),
            )

    def remove_worker(self, worker: int) -> None:
        """Delete a worker that has stopped."""
        with self.transaction() as connection:
            connection.execute("DELETE FROM workers WHERE id = ?", (worker,))
