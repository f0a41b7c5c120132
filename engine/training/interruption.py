"""An error after which a run goes on in another process. Free of torch."""

from __future__ import annotations


class Interrupted(RuntimeError):
    """This process can't go on, but another one can, from the last checkpoint."""
