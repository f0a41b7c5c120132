"""Paths as people write them: `~` is a home folder. Standard library only."""

from __future__ import annotations

import os
from pathlib import Path


def expanded(path: str | Path, *, beside: Path | None = None) -> Path:
    """Return a path with `~` or `~name` at its start replaced by that home folder.

    Where something of that very name is there, or nobody of that name is known, it stays as it is,
    so that whoever looks for the path says that it does not exist.

    Args:
        path: as a person wrote it.
        beside: the folder that it is seen from; the current one when left out.

    Raises:
        ValueError: for a text that is empty, which would mean the current folder.
    """
    if not str(path).strip():
        raise ValueError("a path is empty; is a variable of the shell unset?")
    path = Path(path)
    if not str(path).startswith("~") or os.path.lexists((beside or Path()) / path):
        return path
    try:
        return path.expanduser()
    except RuntimeError:
        return path
