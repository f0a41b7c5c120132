"""`python -P -m engine.programs.lr_range`: trains the updates of a learning-rate range test.

The job is a line of JSON on stdin, answers are lines of JSON on stdout: what is being prepared, the
measurement of each update, the end. A user error is an answer. The process exits when its standard
input closes, because nothing reads its answers any more.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from engine.programs.pipes import Job, answer_job, say
from engine.start_up import loading

if TYPE_CHECKING:
    from engine.events import Event


def main() -> int:
    """Run one test; return 0, or 2 for a user error."""
    return answer_job(_run)


def _run(job: Job, answers: TextIO) -> None:
    with loading():
        from engine.checkpoints.referenced import found
        from engine.config.loading import load_config
        from engine.events import Noticed, RunStarted, StageProgressed
        from engine.tuning.lr_sweep import config_of_test, sweep

    def emit(event: Event) -> None:
        match event:
            case StageProgressed():
                say(answers, note=event.text)
            case RunStarted():
                say(answers, device=event.device)
            case Noticed(level="warning"):
                say(answers, warning=event.message)

    needs = found(job["needs"])
    config = config_of_test(load_config(job["config"]))
    points = sweep(
        config, job["lrs"], device=job["device"], folder=Path(job["folder"]), needs=needs, emit=emit
    )
    for point in points:
        finite = math.isfinite(point.loss)
        norm = point.grad_norm if math.isfinite(point.grad_norm) else None
        say(answers, lr=point.lr, loss=point.loss if finite else None, grad_norm=norm)
    say(answers, done=True)


if __name__ == "__main__":
    sys.exit(main())
