"""How a child process learns that it has to end: by a signal, by a word or by the death of its worker.

Its standard input is a pipe that the worker holds. A word in it asks the run to stop, its end says
that the worker died. Of several processes of a run all read the same pipe: one gets the word and tells
the others with the next update, but all see the end.
"""

from __future__ import annotations

import ctypes
import os
import signal
import stat
import sys
import threading
import time
from typing import Any

# Time an orphan has to save its checkpoint before it ends the hard way.
_ORPHAN_GRACE_S = 60.0
_STDIN = 0
_PR_SET_PDEATHSIG = 1


class RunControl:
    """Asked by the trainer once per update; costs one attribute."""

    def __init__(self) -> None:
        self._reason: str | None = None

    def stop_reason(self) -> str | None:
        """Return why the run must stop now, or None to go on."""
        return self._reason

    def request_stop(self, reason: str) -> None:
        """Ask the run to stop; the first reason stays."""
        self._reason = self._reason or reason

    def listen(self) -> None:
        """Obey SIGTERM and SIGINT, and watch standard input if a worker holds its other end."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        if stat.S_ISFIFO(os.fstat(_STDIN).st_mode):
            threading.Thread(target=self._watch_worker, name="worker-watch", daemon=True).start()

    def _on_signal(self, number: int, frame: Any) -> None:
        self.request_stop("asked to stop")

    def _watch_worker(self) -> None:
        while os.read(_STDIN, 1024):
            self.request_stop("asked to stop")
        self.request_stop("its worker died")
        time.sleep(_ORPHAN_GRACE_S)
        os._exit(70)


def die_with_parent() -> None:
    """Let the kernel kill this process when the one that started it ends (Linux; elsewhere nothing)."""
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
        if os.getppid() != parent:
            os._exit(70)
