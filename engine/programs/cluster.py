"""`python -P -m engine.programs.cluster`: runs the stages of a recipe, and trains nothing.

The job is a line of JSON on stdin, answers are lines of JSON on stdout: progress, notices, what the
stages came to, the end. A user error is an answer. When its standard input ends, the program saves how far it
is and exits; started again for the same folder, it goes on from there.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from engine.programs.pipes import Job, answer_job, say
from engine.start_up import loading

if TYPE_CHECKING:
    from engine.events import Event


def main() -> int:
    """Run the stages; return 0, or 2 for a user error."""
    return answer_job(_run, outlives_stdin=True)


class _Control:
    """Asks to stop once standard input has ended."""

    def __init__(self) -> None:
        self._ended = threading.Event()
        threading.Thread(target=self._wait, daemon=True).start()

    def stop_reason(self) -> str | None:
        """Return why to stop, or None."""
        return "asked to stop" if self._ended.is_set() else None

    def _wait(self) -> None:
        sys.stdin.read()
        self._ended.set()


def _run(job: Job, answers: TextIO) -> None:
    control = _Control()
    with loading():
        from engine.checkpoints.referenced import found
        from engine.config.loading import load_config
        from engine.events import Noticed, StageProgressed
        from engine.precision import backend_settings, resolve_device
        from engine.recipes.base import Opening
        from engine.recipes.registry import open_recipe
        from engine.training.prepared import Setup, run_stages
        from engine.training.ranks import Alone

    def emit(event: Event) -> None:
        match event:
            case StageProgressed():
                say(
                    answers, stage=event.name, done=event.done, total=event.total,
                    number=event.number, count=event.count,
                )  # fmt: skip
            case Noticed():
                say(answers, notice=event.message, level=event.level)

    config, folder = load_config(job["config"]), Path(job["folder"])
    with backend_settings(config.precision):
        setup = Setup(
            config,
            open_recipe(config, opening=Opening(folder, found(job["needs"]))),
            folder=folder,
            device=resolve_device(job["device"]),
            ranks=Alone(),
            control=control,
            resume=True,
            emit=emit,
        )
        results, reason = run_stages(setup, None)
    stopped = reason is not None
    say(answers, done=True, stopped=stopped, results={n: r.values for n, r in results.items()})


if __name__ == "__main__":
    sys.exit(main())
