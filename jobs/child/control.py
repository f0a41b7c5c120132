"""How a child process is stopped: by a signal, by a message or by the death of its worker.

Its standard input is a pipe from the worker. A message in it asks the run to stop; its end means that
the worker died. All processes of a run read the same pipe: one of them receives the message and passes
it on with the next update, but all of them see the end.

That a run asks is the sign that it gets on: the worker sees it by the time of a file, whatever the store does.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import stat
import sys
import threading
import time
from pathlib import Path
from typing import Any

# Time for an orphan to save its checkpoint before it exits immediately.
_ORPHAN_GRACE_S = 60.0
_TOUCH_S = 1.0
_STDIN = 0
_PR_SET_PDEATHSIG = 1


class RunControl:
    """Queried by the trainer once per update; costs one attribute access."""

    def __init__(self) -> None:
        self._reason: str | None = None
        self._asked = 0

    def stop_reason(self) -> str | None:
        """Return why the run must stop now, or None to continue."""
        self._asked += 1
        return self._reason

    def interruption(self) -> str | None:
        """Return why an evaluation must stop now, or None to continue."""
        self._asked += 1
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

    def show_progress(self, path: Path) -> None:
        """Let the time of the file at `path` move on as long as the run gets on."""
        with contextlib.suppress(OSError):
            path.touch(mode=0o600)
        thread = threading.Thread(target=self._touch, args=(path,), name="progress", daemon=True)
        thread.start()

    def _touch(self, path: Path) -> None:
        seen = 0
        while True:
            time.sleep(_TOUCH_S)
            if self._asked != seen:
                seen = self._asked
                # Needs no room on the disk. A folder that is gone is told by what else needs it.
                with contextlib.suppress(OSError):
                    os.utime(path)

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
