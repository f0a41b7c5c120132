"""Reads the run store for the dashboard and the command line.

Standard library only (sqlite-utils takes 0.4 s to import), read-only, one reader per thread. A store
that does not exist yet counts as empty.
"""

# ruff: noqa: S608 (the SQL is composed of constants in this file; values are always bound)

from __future__ import annotations

import difflib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.config.old_names import upgraded
from jobs.machine.processes import is_alive
from jobs.store.curves import IS_NUMBER, SeriesKey, read_curve, read_inverse_means
from jobs.store.errors import UnknownRun, failed
from jobs.store.needs import read_needs, read_waits
from jobs.store.records import (
    CheckpointRecord,
    ClipRecord,
    Curve,
    EvaluationRecord,
    EventRecord,
    NeedRecord,
    RunRecord,
    SystemRecord,
    Wait,
    WorkerRecord,
)
from jobs.store.results import read_evaluations, read_results
from jobs.store.row_types import json_object, metrics_of, typed, word
from jobs.store.schema import SCHEMA_VERSION, check_version

# A reader does not migrate: what columns of `runs` before which version of the schema.
_OLD_COLUMNS = {
    "metric": (3, "'si_sdr'"), "best": (3, "best_si_sdr"), "best_ema": (3, "best_si_sdr_ema"),
    "input_score": (3, "input_si_sdr"), "items": (4, "samples"), "epochs": (5, "0.0"),
}  # fmt: skip
_COLUMNS = tuple(name for name in RunRecord.__dataclass_fields__ if name != "waiting")
_QUEUE_ORDER = """
    ORDER BY CASE state WHEN 'running' THEN 0 WHEN 'queued' THEN 1 ELSE 2 END,
    CASE WHEN state IN ('running', 'queued') THEN position END, ended_at DESC, id DESC
"""


class StoreReader:
    """A read-only view of the store at `path`; close it, or use it as a context manager.

    Raises:
        StoreError: from any method, when the store is unreadable or from a newer program.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection: sqlite3.Connection | None = None
        self._version = 0

    def __enter__(self) -> StoreReader:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def data_version(self) -> int:
        """Return a number that changes with the store; 0 while there is no store."""
        rows = self._rows("PRAGMA data_version")
        return int(rows[0][0]) + 1 if rows else 0

    def runs(self) -> list[RunRecord]:
        """List all runs: running, then queued in queue order, then ended, newest first."""
        return self._run_records(_QUEUE_ORDER)

    def run(self, id_or_name: int | str) -> RunRecord:
        """Return one run.

        Raises:
            UnknownRun: when it does not exist, with the nearest name.
        """
        text = str(id_or_name)
        is_id = text.isascii() and text.isdecimal() and len(text) < 19
        where = "id = ?" if is_id else "name = ?"
        key: int | str = int(text) if is_id else text
        if records := self._run_records(f"WHERE {where}", (key,)):
            return records[0]
        names = [row[0] for row in self._rows("SELECT name FROM runs ORDER BY id DESC")]
        raise UnknownRun(f"no run {text!r}{_hint(text, names)}")

    def config(self, run_id: int) -> dict[str, Any]:
        """Return the full, resolved config of a run as plain values, in today's words."""
        rows = self._rows("SELECT config FROM runs WHERE id = ?", (run_id,))
        if not rows:
            raise UnknownRun(f"no run {run_id}")
        return upgraded(json_object(rows[0][0], f"the config of run {run_id}"))

    def needs(self, run_id: int) -> list[NeedRecord]:
        """List the dependencies of a run on other runs and folders, by the keys of its settings."""
        if self._current_version() < 6 or self._connection is None:
            return []
        with self._worded():
            return read_needs(self._connection, run_id)

    def waits(self) -> dict[int, list[Wait]]:
        """Return what each queued run that can't start yet waits for, by run id."""
        if self._current_version() < 6 or self._connection is None:
            return {}
        with self._worded():
            return read_waits(self._connection)

    def series_names(self, run_id: int) -> list[str]:
        """List the names of a run's curves, in the order of their first appearance."""
        rows = self._rows("SELECT name FROM series WHERE run = ? ORDER BY id", (run_id,))
        return [name for (name,) in rows if word(name)]

    def curve(
        self,
        run_id: int,
        series: str,
        *,
        first: int = 0,
        last: int | None = None,
        max_points: int = 2000,
    ) -> Curve:
        """Return one curve from update `first` to `last`, at most `max_points` + 1 points of it.

        With more points, each one summarises a bucket of updates (minimum, maximum, mean, last). An
        unknown series is an empty curve.
        """
        key = self._series(run_id, series)
        connection = self._connection
        if key is None or connection is None:
            return Curve(series, "", bucket=1, updates=[], low=[], high=[], mean=[], last=[])
        with self._worded():
            return read_curve(connection, key, first=first, last=last, max_points=max_points)

    def curves(
        self,
        run_id: int,
        names: Iterable[str],
        *,
        first: int = 0,
        last: int | None = None,
        max_points: int = 2000,
    ) -> dict[str, Curve]:
        """Return several curves of one run by name."""
        return {
            name: self.curve(run_id, name, first=first, last=last, max_points=max_points)
            for name in names
        }

    def inverse_means(self, run_id: int, series: str, *, parts: int) -> list[tuple[float, int]]:
        """Return the mean of 1 / value over equal parts of a curve, each with its number of points."""
        key = self._series(run_id, series)
        connection = self._connection
        if key is None or connection is None:
            return []
        with self._worded():
            return read_inverse_means(connection, key, parts=parts)

    def _series(self, run_id: int, name: str) -> SeriesKey | None:
        rows = self._rows("SELECT id, unit FROM series WHERE run = ? AND name = ?", (run_id, name))
        return (
            SeriesKey(run_id, rows[0][0], name=name, unit=word(rows[0][1]) or "") if rows else None
        )

    def latest(self, run_id: int) -> dict[str, float]:
        """Return the newest finite value of each series of a run."""
        sql = f"""
            SELECT name, (
                SELECT value FROM points
                WHERE points.run = series.run AND series = series.id AND {IS_NUMBER}
                ORDER BY step DESC LIMIT 1
            ) FROM series WHERE run = ? ORDER BY id
        """
        rows = self._rows(sql, (run_id,))
        return {name: value for name, value in rows if value is not None and word(name)}

    def events(
        self, run_id: int | None = None, *, after: int = 0, limit: int = 200
    ) -> list[EventRecord]:
        """List the newest `limit` events with an id above `after`, oldest first; of one run or all."""
        where, values = ("AND run = ?", (run_id,)) if run_id is not None else ("", ())
        sql = f"""
            SELECT id, run, time, level, kind, message FROM events
            WHERE id > ? {where} ORDER BY id DESC LIMIT ?
        """
        return [
            typed(EventRecord, row) for row in reversed(self._rows(sql, (after, *values, limit)))
        ]

    def checkpoints(self, run_id: int) -> list[CheckpointRecord]:
        """List a run's checkpoints, newest first."""
        sql = """
            SELECT run, kind, path, updates, metrics, size_bytes, created_at FROM checkpoints
            WHERE run = ? ORDER BY updates DESC, kind
        """
        return [
            replace(
                typed(CheckpointRecord, (run, kind, path, updates, "", size, created)),
                metrics=metrics_of(metrics),
            )
            for run, kind, path, updates, metrics, size, created in self._rows(sql, (run_id,))
        ]

    def evaluations(self, run_id: int) -> list[EvaluationRecord]:
        """List the evaluations of a run with per-item results, in order."""
        with self._worded():
            connection = self._open()
            # Before version 2 lack this table.
            if connection is None or self._version < 2:
                return []
            return read_evaluations(connection, run_id)

    def item_results(self, run_id: int, updates: int, *, metric: str) -> list[float | None]:
        """Return the value of each item at an update; empty when unknown."""
        with self._worded():
            connection = self._open()
            if connection is None or self._version < 2:
                return []
            return read_results(connection, run_id, updates=updates, metric=metric)

    def clips(self, run_id: int) -> list[ClipRecord]:
        """List the audio files kept of a run, by update, then by item."""
        version = self._current_version()
        table, text = "clips" if version >= 4 else "samples", "text" if version >= 8 else "NULL"
        sql = f"""
            SELECT run, updates, item, kind, path, spectrogram, {text} FROM {table}
            WHERE run = ? ORDER BY updates, item, kind
        """
        return [typed(ClipRecord, row) for row in self._rows(sql, (run_id,))]

    def system(
        self, run_id: int | None = None, *, since: float = 0.0, max_points: int = 500
    ) -> list[SystemRecord]:
        """List system samples since a Unix time, oldest first, thinned to about `max_points`.

        A thinned sample contains mean percentages and peak memory.
        """
        where, values = ("run = ? AND", (run_id,)) if run_id is not None else ("", ())
        counted = self._rows(
            f"SELECT count(*) FROM system WHERE {where} time >= ?", (*values, since)
        )
        stride = max(1, -(-counted[0][0] // max_points)) if counted else 1
        sql = f"""
            SELECT max(time), max(run), avg(cpu_percent), max(ram_bytes), max(ram_total_bytes),
                max(process_ram_bytes), avg(gpu_percent), max(vram_bytes), max(vram_total_bytes),
                max(gpu_name)
            FROM (
                SELECT *, (row_number() OVER (ORDER BY time) - 1) / {stride} AS slot
                FROM system WHERE {where} time >= ?
            ) GROUP BY slot ORDER BY slot
        """
        return [typed(SystemRecord, row) for row in self._rows(sql, (*values, since))]

    def gpu_name(self, run_id: int) -> str | None:
        """Return the GPU that a run trained on, "" for the CPU; None when no system sample is left."""
        rows = self._rows("SELECT gpu_name FROM system WHERE run = ? LIMIT 1", (run_id,))
        return (word(rows[0][0]) or "") if rows else None

    def workers(self) -> list[WorkerRecord]:
        """List the registered workers, and whether their process is alive."""
        sql = "SELECT id, device, pid, pid_token, started_at, run FROM workers ORDER BY id"
        return [
            typed(WorkerRecord, (id_, device, pid, started, run, is_alive(pid, token)))
            for id_, device, pid, token, started, run in self._rows(sql)
        ]

    def _run_records(self, clause: str, values: Sequence[Any] = ()) -> list[RunRecord]:
        version = self._current_version()
        names = [
            old if version < until else name
            for name in _COLUMNS
            for until, old in [_OLD_COLUMNS.get(name, (0, name))]
        ]
        rows = self._rows(f"SELECT {', '.join(names)} FROM runs {clause}", values)
        runs = [_to_run(row) for row in rows]
        waits = self.waits() if any(run.state == "queued" for run in runs) else {}
        return [
            replace(run, waiting=_words(waits[run.id])) if run.id in waits else run for run in runs
        ]

    def _current_version(self) -> int:
        """Return the version of the schema; a writer may have migrated the store since it was opened."""
        if self._version < SCHEMA_VERSION:
            rows = self._rows("PRAGMA user_version")
            self._version = int(rows[0][0]) if rows else 0
        return self._version

    def _rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._worded():
            connection = self._open()
            return [] if connection is None else connection.execute(sql, values).fetchall()

    @contextmanager
    def _worded(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise failed(self.path, error, doing="read") from None

    def _open(self) -> sqlite3.Connection | None:
        """Return the connection; None while the store does not exist or has no tables yet."""
        if self._connection is None and self.path.exists():
            connection = sqlite3.connect(f"{self.path.as_uri()}?mode=ro", uri=True, timeout=5.0)
            try:
                self._version = check_version(connection, self.path)
                if self._version > 0:
                    self._connection = connection
            finally:
                if self._connection is None:
                    connection.close()
        return self._connection


def _to_run(row: tuple[Any, ...]) -> RunRecord:
    assert len(row) == len(_COLUMNS)
    return typed(RunRecord, row)


def _words(waits: Sequence[Wait]) -> str:
    return f"waiting for {'; '.join(dict.fromkeys(wait.text for wait in waits))}"


def _hint(name: str, names: Sequence[str]) -> str:
    if not names:
        return ": no runs yet; enqueue one with `sepdash enqueue PRESET`"
    nearest = difflib.get_close_matches(name, names, n=1)
    return f", did you mean {nearest[0]!r}?" if nearest else "; `sepdash runs` lists them"
