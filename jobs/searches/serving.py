"""The searches of a home, as one worker tends them: which one has something to do, and what if it can't go on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from jobs.home import Home
from jobs.machine.lease import FileLock
from jobs.searches import definition as definitions
from jobs.searches.definition import GOING_ON, Definition
from jobs.searches.rungs import evaluations_of
from jobs.searches.tending import Step
from jobs.searches.trials import Trials, open_trials
from jobs.store.errors import StoreError
from jobs.store.reader import StoreReader
from jobs.store.records import RunRecord
from jobs.store.writer import StoreWriter

logger = logging.getLogger(__name__)


class Searches:
    """The searches of a home, as one worker tends them; `echo` receives a line for what happens."""

    def __init__(self, home: Home, *, echo: Callable[[str], None]) -> None:
        self._home = home
        self._echo = echo
        self._unsettled = False
        self._seen: dict[str, object] = {}
        self._files: dict[Path, tuple[int, Definition]] = {}
        self._open: dict[str, tuple[Definition, Trials]] = {}

    def tend(self, *, propose: bool) -> bool:
        """Do the next step of every search that goes on.

        Args:
            propose: whether the worker has nothing else to train.

        Returns:
            Whether there is nothing more to do now: no run was queued, which another worker may take,
            and no search was left out because another worker was at it.
        """
        self._unsettled = False
        for path in definitions.paths(self._home):
            definition = self._read(path)
            if definition is None:
                continue
            if definition.state in GOING_ON:
                propose = not self._tend(definition, path, propose=propose) and propose
            else:
                self._close(definition.name)
        return not self._unsettled

    def _read(self, path: Path) -> Definition | None:
        """Return a search, read again when its file was replaced; None when it can't be read."""
        try:
            changed = path.stat().st_mtime_ns
            if path not in self._files or self._files[path][0] != changed:
                self._files[path] = (changed, definitions.read(path))
        except FileNotFoundError:
            return None
        except StoreError:
            logger.exception("a search can't be read; it is left out")
            return None
        return self._files[path][1]

    def close(self) -> None:
        """Close all files."""
        for name in list(self._open):
            self._close(name)

    def _tend(self, definition: Definition, path: Path, *, propose: bool) -> bool:
        """Do the next step of a search, unless nothing has changed; return whether it queued a run."""
        with StoreReader(self._home.store) as reader:
            seen = (propose, definition, *_signs(reader, definition))
        if self._seen.get(definition.name) == seen:
            return False
        lock = FileLock(path.with_suffix(".lock"))
        if not lock.acquire():
            self._unsettled = True
            return False
        try:
            # It may have been stopped or removed meanwhile.
            current = definitions.find(self._home, definition.name)
            if current is None or current.state not in GOING_ON:
                return False
            queued = self._step(current, propose=propose)
        except (ValueError, OSError) as error:
            # What a person can put right: data that are gone, a taken name, a full disk.
            self._fail(definition, str(error))
            return False
        except Exception as error:
            # Boundary of the worker: a bug here ends a search, not the night.
            logger.exception("search %s can't go on", definition.name)
            self._fail(definition, f"{type(error).__name__}: {error}")
            return False
        finally:
            lock.release()
        if queued:
            self._unsettled = True
        else:
            self._seen[definition.name] = seen
        return queued

    def _step(self, definition: Definition, *, propose: bool) -> bool:
        with StoreReader(self._home.store) as reader:
            step = Step(
                self._home,
                definition,
                trials=self._trials(definition),
                reader=reader,
                echo=self._echo,
            )
            return step.do(propose=propose)

    def _trials(self, definition: Definition) -> Trials:
        """Return the trials of a search, with the sampler and the pruner that it has now.

        One that was started again has another time; one that goes on may have other settings.
        """
        now = replace(definition, state="running", message="")
        if definition.name in self._open and self._open[definition.name][0] != now:
            self._close(definition.name)
        if definition.name not in self._open:
            self._open[definition.name] = (now, open_trials(self._home, definition))
        return self._open[definition.name][1]

    def _close(self, name: str) -> None:
        if name in self._open:
            self._open.pop(name)[1].close()

    def _fail(self, definition: Definition, message: str) -> None:
        """Stop a search that can't go on, and say why; `sepdash sweep` continues it."""
        definition.moved(self._home, to="failed", message=message)
        text = f"search {definition.name} stopped: {message}"
        with StoreWriter(self._home.store) as store:
            store.add_event(None, "error", kind="search", message=text)
        self._echo(text)


def _signs(reader: StoreReader, definition: Definition) -> list[object]:
    """Return what changes when a step may have something to do."""
    names = (definition.name, definition.trials_of)
    return [
        (
            run.id,
            run.state,
            run.stopping,
            run.state == "running" and _progress(reader, run, of=definition),
        )
        for run in reader.runs()
        if run.experiment in names
    ]


def _progress(reader: StoreReader, run: RunRecord, *, of: Definition) -> int:
    evaluations = evaluations_of(reader, run, metric=of.metric, clock=of.clock)
    return len(evaluations)
