"""A worker in a process of its own, whose children are the fake training: `worker.py HOME [--drain]`."""

from __future__ import annotations

import sys
from pathlib import Path

from jobs.home import Home
from jobs.worker.serve import serve
from jobs.worker.supervisor import Child

COMMAND = (sys.executable, "-P", str(Path(__file__).with_name("training.py")))

if __name__ == "__main__":
    child = Child(COMMAND, grace_s=20.0)
    serve(Home(Path(sys.argv[1])), device="cpu", drain="--drain" in sys.argv, child=child)
