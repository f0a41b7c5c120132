"""An error after which a run continues in a new process. Free of torch."""

from __future__ import annotations


class Interrupted(RuntimeError):
    """This process can't continue, but a new one can, from the last checkpoint."""
