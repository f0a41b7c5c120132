"""Child processes that answer in lines of JSON: their caller's side, as `engine.programs.pipes` is their own.

A child leads its process group and is killed with all of it; it ends by itself when its standard input does.
Free of torch.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from math import inf
from threading import Event
from typing import IO, Any

_LOOK_S = 0.2


class Cancelled(Exception):
    """The work of a child was cancelled."""


def answers_of(
    command: Sequence[str],
    job: Mapping[str, Any],
    *,
    environment: Mapping[str, str] | None = None,
    cancel: Event | None = None,
    beside: Callable[[subprocess.Popen[bytes]], AbstractContextManager[None]] | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield the answers of a child that is given one job; it is killed when this ends in any way.

    Args:
        command: of the child, which reads a line of JSON and writes others (`engine.programs.pipes`); its
            last answer has the key `done` or `problem`.
        job: what it is to do.
        environment: of the child; None: that of this process.
        cancel: once set, the child is killed.
        beside: a context for the time of its answers, given the child.

    Raises:
        ValueError: its problem, or when it ends without a last answer.
        Cancelled: once `cancel` is set.
    """
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
            env=None if environment is None else dict(environment), start_new_session=True,
        )  # fmt: skip
        ended = False
        try:
            assert process.stdin is not None
            # Its stdin stays open: the child exits when this pipe closes.
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(json.dumps(job).encode() + b"\n")
                process.stdin.flush()
            with beside(process) if beside else contextlib.nullcontext():
                for line in lines_of(process, inf, cancel=cancel):
                    answer: dict[str, Any] = json.loads(line)
                    if "problem" in answer:
                        raise ValueError(answer["problem"])
                    ended = ended or "done" in answer
                    yield answer
        finally:
            code = killed(process)
        if not ended:
            raise ValueError(f"the process ended early: {how_it_ended(code, errors)}")


def lines_of(
    process: subprocess.Popen[bytes], deadline: float, *, cancel: Event | None = None
) -> Iterator[bytes]:
    """Yield the child's output, line by line, until it ends or the deadline passes.

    Raises:
        Cancelled: once `cancel` is set.
    """
    assert process.stdout is not None
    descriptor = process.stdout.fileno()
    rest = b""
    while time.monotonic() < deadline:
        if cancel is not None and cancel.is_set():
            raise Cancelled
        if not select.select([descriptor], [], [], _LOOK_S)[0]:
            continue
        chunk = os.read(descriptor, 65_536)
        if not chunk:
            return
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines


def killed(process: subprocess.Popen[bytes]) -> int:
    """Kill a child that leads its process group, with all of it; close its pipes and return its exit code."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    code = process.wait()
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(BrokenPipeError):
            if pipe is not None:
                pipe.close()
    return code


def how_it_ended(code: int, errors: IO[bytes]) -> str:
    """Return the signal that ended the child, or the last line of its stderr."""
    errors.seek(0)
    lines = [line.strip() for line in errors.read().decode(errors="replace").splitlines()]
    last = next((line for line in reversed(lines) if line), "it exited without output")
    if code < 0:
        return f"its process was killed by {signal.Signals(-code).name}"
    return last[:200]
