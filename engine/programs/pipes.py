"""What programs that answer through a pipe have in common: lines of JSON, and an end with their standard input."""

from __future__ import annotations

import json
import os
import sys
import threading
from typing import TextIO


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
