"""Paths as people write them: `~` is a home folder. Standard library only."""

from __future__ import annotations

from pathlib import Path


def expanded(path: str | Path) -> Path:
    """Return a path with `~` or `~name` at its start replaced by that home folder.

    Where nobody of that name is known it stays as it is, as in a shell, so that whoever looks for
    the path says that it does not exist.
    """
    path = Path(path)
    try:
        return path.expanduser()
    except RuntimeError:
        return path
