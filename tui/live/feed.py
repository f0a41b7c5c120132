"""The only path from the store to the screen: a thread that polls for changes and posts messages.

It queries `PRAGMA data_version` a few times a second, reads only what is watched, caches the curves of
ended runs, and posts messages; a newer message replaces a waiting older one. It never touches a
widget. It follows the log of the watched run by its file size.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from textual.message import Message

from engine.metrics.registry import (
    LOSS,
    SKIPPED,
    evaluated_name,
    reading_of,
    stored_name,
    training_names,
    variants,
)
from jobs.home import Home
from jobs.store.records import Curve, RunRecord, SystemRecord, WorkerRecord
from tui.live.messages import (
    ChartsChanged,
    FeedFailed,
    LogChanged,
    MachineSampled,
    RunData,
    RunsChanged,
)
from tui.reports.formats import clean

SERIES = ("loss", LOSS, SKIPPED, "audio_s_per_s", "updates_per_s")
POLL_S = 0.25
CHARTS_S = 1.0
WORKERS_S = 2.0
MAX_POINTS = 1000
LOG_LINES = 400
LOG_BYTES = 64 * 1024


class Reader(Protocol):
    """The part of `jobs.store.reader.StoreReader` that the feed uses."""

    def data_version(self) -> int:
        """Return a number that changes when the store has changed."""

    def runs(self) -> list[RunRecord]:
        """List all runs in queue order."""

    def workers(self) -> list[WorkerRecord]:
        """List the workers."""

    def curves(
        self, run_id: int, names: Sequence[str], *, max_points: int = ...
    ) -> dict[str, Curve]:
        """Return curves of a run by name."""

    def latest(self, run_id: int) -> dict[str, float]:
        """Return the newest value of each series of a run."""

    def config(self, run_id: int) -> dict[str, Any]:
        """Return the settings of a run."""

    def system(
        self, run_id: int | None = ..., *, since: float = ..., max_points: int = ...
    ) -> list[SystemRecord]:
        """List samples of the machine."""

    def close(self) -> None:
        """Close the store."""


@dataclass(frozen=True, slots=True)
class Watch:
    """What the screen shows: curves of `runs`, and the log of the first of them.

    If empty, the first run of the store is read, so that the first chart needs no round trip.

    Attributes:
        runs: their ids.
        metric: what the chart of scores shows; empty: that by which a run is listed.
    """

    runs: tuple[int, ...] = ()
    metric: str = ""


class LogTail:
    """The last lines of a growing file; reads only new text."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: list[str] = []
        self._position = 0
        self._rest = b""

    def poll(self) -> bool:
        """Read new text; return True if the lines changed."""
        try:
            size = self.path.stat().st_size
        except OSError:
            return False
        if size == self._position:
            return False
        if size < self._position:
            self._position, self._rest, self.lines = 0, b"", []
        start = max(self._position, size - LOG_BYTES)
        with self.path.open("rb") as file:
            file.seek(start)
            data = file.read(size - start)
        if start > self._position:
            self._rest = b""
            data = data.partition(b"\n")[2]
        self._position = size
        # Lines are decoded whole: a character may be half written.
        *whole, self._rest = (self._rest + data).split(b"\n")
        texts = [line.decode("utf-8", "replace") for line in whole]
        fresh = [clean(text.rpartition("\r")[2] or text) for text in texts]
        self.lines = (self.lines + fresh)[-LOG_LINES:]
        return True


class Feed:
    """Polls the store for one screen; `run` is the body of a thread worker."""

    def __init__(
        self,
        home: Home,
        open_reader: Callable[[], Reader],
        *,
        post: Callable[[Message], object],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._home = home
        self._open_reader = open_reader
        self._post = post
        self._clock = clock
        self._wake = threading.Event()
        self._closed = threading.Event()
        self._watch = Watch()
        self._seen_version = -1
        self._seen_watch: Watch | None = None
        self._workers_at = 0.0
        self._charts_at = 0.0
        self._stale = True
        self._runs: tuple[RunRecord, ...] = ()
        self._kept: dict[tuple[int, str], RunData] = {}
        self._log: LogTail | None = None

    def watch(self, watch: Watch) -> None:
        """Set what to read; takes effect immediately."""
        if watch != self._watch:
            self._watch = watch
            self._wake.set()

    def wake(self) -> None:
        """Check for changes immediately."""
        self._wake.set()

    def close(self) -> None:
        """Make `run` return."""
        self._closed.set()
        self._wake.set()

    def run(self, cancelled: Callable[[], bool]) -> None:
        """Poll until closed or cancelled; report an unreadable store once and retry."""
        failed = ""
        while not (self._closed.is_set() or cancelled()):
            try:
                with closing(self._open_reader()) as reader:
                    self._seen_version = -1
                    while not (self._closed.is_set() or cancelled()):
                        self.poll(reader)
                        failed = ""
                        self._wake.wait(POLL_S)
                        self._wake.clear()
            except (sqlite3.Error, OSError, ValueError) as error:
                if str(error) != failed:
                    failed = str(error)
                    self._post(FeedFailed(failed))
                self._wake.wait(4 * POLL_S)
                self._wake.clear()

    def poll(self, reader: Reader) -> None:
        """Read and post what has changed since the last poll."""
        version, watch = reader.data_version(), self._watch
        now = self._clock()
        changed = version != self._seen_version
        if changed or now - self._workers_at >= WORKERS_S:
            self._read_runs(reader, changed=changed)
        if not watch.runs and self._runs:
            watch = replace(watch, runs=(self._runs[0].id,))
        self._stale = self._stale or changed
        if watch != self._seen_watch or (self._stale and now - self._charts_at >= CHARTS_S):
            self._charts_at, self._stale = now, False
            self._read_charts(reader, watch)
        self._follow_log(watch)
        self._seen_version, self._seen_watch = version, watch

    def _read_runs(self, reader: Reader, *, changed: bool) -> None:
        self._workers_at = self._clock()
        if changed or not self._runs:
            self._runs = tuple(reader.runs())
        self._post(RunsChanged(self._runs, tuple(reader.workers())))
        samples = reader.system(since=self._clock() - 30.0, max_points=1000)
        self._post(MachineSampled(samples[-1] if samples else None))

    def _read_charts(self, reader: Reader, watch: Watch) -> None:
        records = {run.id: run for run in self._runs}
        data = [
            self._read_run(reader, records[run], metric=watch.metric)
            for run in watch.runs
            if run in records
        ]
        self._kept = {(item.run.id, watch.metric): item for item in data}
        self._post(ChartsChanged(tuple(data)))

    def _read_run(self, reader: Reader, run: RunRecord, *, metric: str) -> RunData:
        kept = self._kept.get((run.id, metric))
        if kept is not None and kept.run == run and run.state != "running":
            return kept
        latest = reader.latest(run.id)
        names = {*SERIES, *variants(run.metric), *training_names(latest)}
        config = _config(reader, run.id)
        terms = {evaluated_name(name) for name in reading_of(latest, config).order}
        asked = (LOSS, run.metric, *((metric, evaluated_name(metric)) if metric else ()), *terms)
        names |= (terms | {stored_name(name, train=True) for name in asked}) & latest.keys()
        if metric:
            names |= {*variants(metric), *variants(evaluated_name(metric))} & latest.keys()
        curves = reader.curves(run.id, tuple(names), max_points=MAX_POINTS)
        since = run.started_at or 0.0
        system = reader.system(run.id, since=since, max_points=MAX_POINTS // 2)
        return RunData(run, config, curves=curves, latest=latest, system=tuple(system))

    def _follow_log(self, watch: Watch) -> None:
        run = watch.runs[0] if watch.runs else None
        path = self._home.run_folder(run or 0) / "log.txt"
        fresh = self._log is None or self._log.path != path
        if self._log is None or fresh:
            self._log = LogTail(path)
        if self._log.poll() or fresh:
            self._post(LogChanged(run, tuple(self._log.lines), str(path)))


def _config(reader: Reader, run_id: int) -> dict[str, Any]:
    """Return the settings of a run; none where they can't be read: its curves are worth showing, too."""
    try:
        return reader.config(run_id)
    except ValueError:
        return {}
