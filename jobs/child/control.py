"""How a child process is stopped: by a signal, by a message or by the death of its worker.

Its standard input is a pipe from the worker. A message in it asks the run to stop; its end means that
the worker died. All processes of a run read the same pipe: one of them receives the message and passes
it on with the next update, but all of them see the end.
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

# Time for an orphan to save its checkpoint before it exits immediately.
_ORPHAN_GRACE_S = 60.0
_STDIN = 0
_PR_SET_PDEATHSIG = 1


class RunControl:
    """Queried by the trainer once per update; costs one attribute access."""

    def __init__(self) -> None:
        self._reason: str | None = None

    def stop_reason(self) -> str | None:
        """Return why the run must stop now, or None to continue."""
        return self._reason

    def interruption(self) -> str | None:
        """Return why an evaluation must stop now, or None to continue."""
        return self._reason

    def request_stop(self, reason: str) -> None:
        """Ask the run to stop; the first reason is kept."""
        self._reason = self._reason or reason

    def listen(self) -> None:
        """Handle SIGTERM and SIGINT, and watch standard input if it is a pipe from a worker."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        if stat.S_ISFIFO(os.fstat(_STDIN).st_mode):
            threading.Thread(target=self._watch_worker, name="worker-watch", daemon=True).start()

    def _on_signal(self, number: int, frame: Any) -> None:
        self.request_stop("stop requested")

    def _watch_worker(self) -> None:
        while os.read(_STDIN, 1024):
            self.request_stop("stop requested")
        self.request_stop("its worker died")
        time.sleep(_ORPHAN_GRACE_S)
        os._exit(70)


def die_with_parent() -> None:
    """Let the kernel kill this process when its parent ends (Linux; no effect elsewhere)."""
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
        if os.getppid() != parent:
            os._exit(70)
