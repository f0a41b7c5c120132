"""What programs that answer through a pipe have in common: a job, lines of JSON, and an end with their standard input."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from typing import Any, TextIO

Job = dict[str, Any]


def answer_job(work: Callable[[Job, TextIO], None], *, outlives_stdin: bool = False) -> int:
    """Do the job that the first line of standard input holds; return the exit status.

    Args:
        work: does a job, and says its answers to the stream it is given. It imports what takes long itself.
        outlives_stdin: `work` sees to the end of standard input; otherwise that ends the process at once.

    Returns:
        0, or 2 for a user error (a `ValueError` or `OSError`), which is the last answer: `problem`.
    """
    answers = open_answers()
    job: Job = json.loads(sys.stdin.readline())
    if not outlives_stdin:
        end_with_stdin()
    try:
        work(job, answers)
    except (ValueError, OSError) as error:
        say(answers, problem=str(error))
        return 2
    return 0


def open_answers() -> TextIO:
    """Return what answers are written to: stdout, from now on for them alone; output of libraries goes to stderr."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


def say(answers: TextIO | None, **values: object) -> None:
    """Write one answer at once; None of a process that leaves answering to another one."""
    if answers is not None:
        answers.write(json.dumps(values) + "\n")
        answers.flush()


def end_with_stdin() -> None:
    """End this process, from now on, when its standard input ends: who asked is gone."""
    threading.Thread(target=_wait_for_the_end, daemon=True).start()


def _wait_for_the_end() -> None:
    sys.stdin.read()
    os._exit(3)
