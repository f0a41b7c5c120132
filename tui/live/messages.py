"""Messages from the feed to the screen: past-tense facts, of which only the newest matters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from textual.message import Message

from jobs.store.records import Curve, RunRecord, SystemRecord, WorkerRecord


@dataclass(frozen=True, slots=True)
class RunData:
    """The data of one run for the charts; `config` says what its values mean."""

    run: RunRecord
    config: Mapping[str, Any]
    curves: Mapping[str, Curve]
    latest: Mapping[str, float]
    system: tuple[SystemRecord, ...]


class Newest(Message):
    """A message that replaces a waiting older one of its type."""

    def can_replace(self, message: Message) -> bool:
        """Return True for messages of the same type."""
        return type(message) is type(self)


class RunsChanged(Newest):
    """The queue, the runs or the workers changed."""

    def __init__(self, runs: tuple[RunRecord, ...], workers: tuple[WorkerRecord, ...]) -> None:
        super().__init__()
        self.runs = runs
        self.workers = workers


class MachineSampled(Newest):
    """The newest sample of CPU, RAM and GPU; None if there is no recent one."""

    def __init__(self, sample: SystemRecord | None) -> None:
        super().__init__()
        self.sample = sample


class ChartsChanged(Newest):
    """The curves of the watched runs, in the requested order."""

    def __init__(self, data: tuple[RunData, ...]) -> None:
        super().__init__()
        self.data = data


class LogChanged(Newest):
    """The newest lines of the log of a run; `path` is the log file."""

    def __init__(self, run: int | None, lines: tuple[str, ...], path: str) -> None:
        super().__init__()
        self.run = run
        self.lines = lines
        self.path = path


class FeedFailed(Newest):
    """The store can't be read; `reason` is shown to the user."""

    def __init__(self, reason: str) -> None:
        super().__init__()
        self.reason = reason


class ActionEnded(Message):
    """An action on a run succeeded or failed; `text` is shown to the user."""

    def __init__(self, text: str, *, failed: bool = False) -> None:
        super().__init__()
        self.text = text
        self.failed = failed
