"""A worker whose children are the fake training, and which can end itself by kill -9 at a chosen place.

`worker.py HOME DEVICE [PLACE N]`: the N-th time that it comes to PLACE it is killed. A place is
`before:NAME` or `after:NAME`, where NAME is a function of `PLACES`.
"""

from __future__ import annotations

import os
import signal
import sys
from functools import wraps
from pathlib import Path

import jobs.searches.tending as tending
import jobs.worker.serve as serve_module
from jobs.home import Home
from jobs.searches.definition import Definition
from jobs.searches.trials import Trials
from jobs.worker.serve import serve
from jobs.worker.supervisor import Child

COMMAND = (sys.executable, "-P", str(Path(__file__).with_name("training.py")))
PLACES = {
    "ask": (Trials, "propose"),
    "settle": (Trials, "_complete"),
    "enqueue": (tending, "enqueue_all"),
    "note": (Trials, "note"),
    "report": (Trials, "report"),
    "stop": (tending.submit, "stop"),
    "tell": (Trials, "end"),
    "move": (Definition, "moved"),
}


def die_at(place: str, number: int) -> None:
    """Let the `number`-th call of a function be the last thing this process does."""
    when, _, name = place.partition(":")
    owner, attribute = PLACES[name]
    whole = getattr(owner, attribute)
    calls = [0]

    @wraps(whole)
    def dying(*args, **options):
        calls[0] += 1
        last = calls[0] == number
        if last and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = whole(*args, **options)
        if last:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, attribute, dying)


if __name__ == "__main__":
    if len(sys.argv) > 3:
        die_at(sys.argv[3], int(sys.argv[4]))
    # Two devices of a machine that has none.
    serve_module.resolve_device = lambda name: name
    child = Child(COMMAND, grace_s=20.0)
    serve(Home(Path(sys.argv[1])), device=sys.argv[2], drain=True, child=child)
