"""A worker that outlives the terminal, the SSH connection or the dashboard that started it."""

from __future__ import annotations

import subprocess
import sys
import time

from jobs.home import Home
from jobs.store.reader import StoreReader
from jobs.worker.supervisor import STALL_S

# Time for a worker to start and register.
START_S = 20.0


def start_detached(
    home: Home, *, device: str = "auto", drain: bool = False, stall_s: float = STALL_S
) -> str:
    """Start a worker in a session of its own; return what to tell the user, once it is running.

    A hang-up of the terminal reaches only processes of its session; output goes to `worker.log` in the home.

    Raises:
        OSError: when it exited immediately, with the last line of its log.
    """
    home.create()
    path = home.root / "worker.log"
    words = ["worker", "--device", device, "--stall-after", f"{stall_s:g}"]
    words += ["--drain"] if drain else []
    with path.open("ab") as log:
        begin = log.tell()
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "tui.main", "--home", str(home.root), *words],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd="/",
        )
    end = time.monotonic() + START_S
    with StoreReader(home.store) as reader:
        while time.monotonic() < end:
            if (code := child.poll()) is not None:
                said = path.read_bytes()[begin:]
                if drain and code == 0:
                    return f"nothing was queued: the worker has ended; log: {path}"
                raise OSError(f"the worker exited immediately{_last_line(said)}")
            if any(worker.pid == child.pid for worker in reader.workers()):
                return f"worker started (process {child.pid}); log: {path}"
            time.sleep(0.1)
    return f"worker is starting (process {child.pid}); log: {path}"


def _last_line(log: bytes) -> str:
    lines = log.decode(errors="replace").strip().splitlines()
    return f": {lines[-1]}" if lines else " without output"
