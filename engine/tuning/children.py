"""Runs trials in child processes, so that running out of memory or a crash ends one case only.

Free of torch: only the child, `python -P -m engine.programs.tuning_trial`, loads it.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from threading import Event
from typing import Any

from engine.child_processes import how_it_ended, killed, lines_of
from engine.tuning.trials import Answer, Facts, Job, Measured, Outcome

_COMMAND = (sys.executable, "-P", "-m", "engine.programs.tuning_trial")


class ChildMeasurer:
    """Measures jobs in children; starts another child for the remaining cases when one ends early.

    Args:
        cancel: once set, the child is killed and `Cancelled` raised.
        environment: of the children; None: that of this process.
        command: replaces the command of the child.
    """

    def __init__(
        self,
        *,
        cancel: Event | None = None,
        environment: Mapping[str, str] | None = None,
        command: Sequence[str] = _COMMAND,
    ) -> None:
        self._cancel = cancel or Event()
        self._environment = environment
        self._command = list(command)

    def measure(self, job: Job, *, timeout_s: float) -> Answer:
        """Return an answer for every case, whatever happens to the child.

        Raises:
            Cancelled: when the search was cancelled.
        """
        deadline = time.monotonic() + timeout_s
        answers: dict[int, Measured] = {}
        facts: Facts | None = None
        while len(left := [i for i in range(len(job.cases)) if i not in answers]) or not facts:
            first = job.reference
            reference = left.index(first) if first is not None and first in left else None
            cases = tuple(job.cases[i] for i in left)
            part = replace(job, cases=cases, reference=reference)
            child = _Child(part, self._command, environment=self._environment)
            child.follow(deadline, self._cancel)
            facts = facts or child.facts
            answers |= {left[i]: measured for i, measured in child.answers().items()}
            if child.problem or not child.answers():
                message = child.problem or child.ending
                failed = Measured("timeout" if child.late else "failed", message=message)
                answers = {i: answers.get(i, failed) for i in range(len(job.cases))}
                return Answer(
                    tuple(answers[i] for i in range(len(job.cases))), facts, problem=child.problem
                )
        return Answer(tuple(answers[i] for i in range(len(job.cases))), facts)


class _Child:
    """One child process and its answers."""

    def __init__(
        self, job: Job, command: Sequence[str], *, environment: Mapping[str, str] | None
    ) -> None:
        self._job = job
        self._command = command
        self._environment = environment
        self._measured: dict[int, Measured] = {}
        self._started: int | None = None
        self._done = False
        self.facts: Facts | None = None
        self.problem = ""
        self.ending = ""
        self.late = False

    def follow(self, deadline: float, cancel: Event) -> None:
        """Run the child until it ends or the deadline passes; then kill its process group."""
        with tempfile.TemporaryFile() as errors:
            process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
                env=self._environment, start_new_session=True,
            )  # fmt: skip
            try:
                assert process.stdin is not None
                # Its stdin stays open: the child exits when this pipe closes.
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.write(json.dumps(asdict(self._job)).encode() + b"\n")
                    process.stdin.flush()
                for line in lines_of(process, deadline, cancel=cancel):
                    self._take(line)
                self.late = not self._done and time.monotonic() >= deadline
            finally:
                code = killed(process)
            self.ending = "timed out" if self.late else how_it_ended(code, errors)

    def answers(self) -> dict[int, Measured]:
        """Return the answers so far; an interrupted timing counts as an answer."""
        if self._done:
            return self._measured
        known = {
            i: measured
            for i, measured in self._measured.items()
            if measured.outcome != "measured" or measured.update_s or not self._job.timing_s
        }
        if self._started is not None and not (self.late and self._started in known):
            outcome: Outcome = "timeout" if self.late else "failed"
            known[self._started] = Measured(outcome, message=self.ending)
        if self.late:
            rest = Measured("timeout", message=self.ending)
            known = {i: known.get(i, rest) for i in range(len(self._job.cases))}
        return known

    def _take(self, line: bytes) -> None:
        said: dict[str, Any] = json.loads(line)
        if "facts" in said:
            pairs = said["facts"].items()
            values: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in pairs}
            self.facts = Facts(**values)
        elif "started" in said:
            self._started = said["started"]
        elif "case" in said:
            measured = said["measured"]
            self._measured[said["case"]] = Measured(
                **{**measured, "update_s": tuple(measured["update_s"])}
            )
        elif "round" in said:
            for index, seconds in said["round"]:
                before = self._measured[index]
                self._measured[index] = replace(before, update_s=(*before.update_s, seconds))
        self._done = self._done or "done" in said
        self.problem = said.get("problem", self.problem)
