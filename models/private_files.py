"""Creates files that only their user can read. Standard library only, for every package."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path


def ensure_private(path: Path) -> None:
    """Create an empty file with mode 0600, and its folder with 0700, unless they exist.

    An existing file is never opened: closing any descriptor of a file drops every POSIX lock that the
    process holds on it, also those of SQLite connections in other threads, and that corrupts it
    (https://www.sqlite.org/howtocorrupt.html, 2.2). The new file is closed before it gets its final name.
    """
    if path.exists():
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    file, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(file)
    with contextlib.suppress(FileExistsError):
        os.link(name, path)
    Path(name).unlink()


def write_private(path: Path, content: str | bytes) -> None:
    """Write a file of mode 0600 in a folder of 0700, whole or not at all.

    Raises:
        OSError: when it can't be written; a file of that name stays as it was.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    file, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.")
    try:
        with os.fdopen(file, "wb") as stream:
            stream.write(content.encode("utf-8") if isinstance(content, str) else content)
            stream.flush()
            os.fsync(stream.fileno())
        Path(aside).replace(path)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise
