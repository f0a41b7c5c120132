"""Making an evaluation that can be stopped, and that costs no training where it fails.

Owns when it is tried again or left out; what it measures is in `engine.training.validator`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from engine.config.errors import DataError
from engine.evaluation.result import Evaluation
from engine.events import Control, Interrupting
from engine.training.out_of_memory import is_out_of_memory, release_memory

_TRIES = 2
# Evaluations left out one after another, before the run ends: its curves would say nothing.
MOST_LEFT_OUT = 3


class EvaluationAbandoned(BaseException):
    """The run was asked to stop during an evaluation; it is made again after the resume."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@contextmanager
def asking(control: Control) -> Iterator[None]:
    """Ask `control` before each forward pass of any module, so that every recipe can be stopped between items.

    A control that is asked between updates alone stops no evaluation.

    Raises:
        EvaluationAbandoned: out of the forward pass, when the run must stop.
    """
    if not isinstance(control, Interrupting):
        yield
        return

    def ask(module: nn.Module, inputs: Any) -> None:
        if (reason := control.interruption()) is not None:
            raise EvaluationAbandoned(reason)

    hook = register_module_forward_pre_hook(ask)
    try:
        yield
    finally:
        hook.remove()


class Attempts:
    """Makes the evaluations of a run: at most twice, and after that the run goes on without.

    Args:
        control: says whether to stop.
        notice: reports (kind, text).
    """

    def __init__(self, control: Control, notice: Callable[[str, str], None]) -> None:
        self._control = control
        self._notice = notice
        self._left_out = 0

    def make(
        self, evaluate: Callable[[], Evaluation], *, save: Callable[[], None]
    ) -> Evaluation | None:
        """Return what `evaluate` returns; None where memory ran out, or files were gone, at each try.

        Whatever the error, `save` is called first.

        Raises:
            EvaluationAbandoned: when the run must stop.
        """
        for attempt in range(1, _TRIES + 1):
            try:
                with asking(self._control):
                    evaluation = evaluate()
            except Exception as error:
                save()
                if not (is_out_of_memory(error) or isinstance(error, OSError | DataError)):
                    raise
                last = attempt == _TRIES
                self._left_out += last
                if self._left_out >= MOST_LEFT_OUT:
                    raise
                then = "left out, training continues" if last else "it is made again"
                self._notice("evaluation-failed", f"evaluation failed ({error}); {then}")
            else:
                self._left_out = 0
                return evaluation
            # Not above: the error holds what the evaluation had in memory.
            release_memory()
        return None
