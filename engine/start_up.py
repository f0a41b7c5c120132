"""The start of a process that loads torch.

Torch makes a million objects that live until the process ends. Looking for garbage among them, while
they are made and once more at the end, is a third of what starting and ending such a process takes.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def loading() -> Iterator[None]:
    """Load modules without looking for garbage among them, then or later."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
