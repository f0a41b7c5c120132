"""Headers of audio files without opening them: from the manifest of their folder, where there is one.

`sepdash data index` writes it. A file whose size or modification time differs is opened anyway,
and reported. Free of torch.
"""

from __future__ import annotations

import logging
import os
from functools import lru_cache
from pathlib import Path

from engine.config.errors import DataError
from engine.data.files.audio_files import AudioInfo, check_folder, probe, scan_folder
from engine.data.files.index import INDEX_NAME, IndexEntry, read_index

_LOG = logging.getLogger(__name__)


class Headers:
    """The headers of files below a folder; use `header_of` for each, then `warn_if_stale`.

    The manifest is in the folder or in one above it; the nearest one is used.
    """

    def __init__(self, folder: Path) -> None:
        folder = folder.absolute()
        candidates = (path / INDEX_NAME for path in (folder, *folder.parents))
        self._manifest = next((path for path in candidates if path.is_file()), None)
        self._root = f"{self._manifest.parent}{os.sep}" if self._manifest else ""
        self._entries = _entries_of(self._manifest) if self._manifest else {}
        self._unlike: list[Path] = []

    def header_of(self, path: Path) -> AudioInfo:
        """Return the header of a file.

        Raises:
            DataError: when the file has to be opened but can't be read.
        """
        name = str(path.absolute())
        if not self._entries or not name.startswith(self._root):
            return probe(path)
        entry = self._entries.get(name.removeprefix(self._root))
        if entry is None or not _is_as_noted(path, entry):
            self._unlike.append(path)
            return probe(path)
        return AudioInfo(
            path, entry.frames, rate_hz=entry.rate_hz, channels=entry.channels, note=entry.note
        )

    def warn_if_stale(self) -> None:
        """Warn, once, about files that are new or have changed since the manifest was written."""
        if self._unlike and self._manifest is not None:
            number, verb = (1, "is") if len(self._unlike) == 1 else (len(self._unlike), "are")
            noun = "file" if number == 1 else "files"
            _LOG.warning(
                "warning: %s: out of date, %d %s %s new or changed, for example %s; read from the files; "
                "update the index with `sepdash data index %s`",
                self._manifest, number, noun, verb, self._unlike[0], self._manifest.parent,
            )  # fmt: skip
            self._unlike = []


def scan_indexed(folder: Path, *, setting: str) -> list[AudioInfo]:
    """Do what `scan_folder` does, opening only files that are not in a manifest.

    Raises:
        DataError: as `scan_folder` does.
    """
    check_folder(folder, setting=setting)
    headers = Headers(folder)
    infos = scan_folder(folder, setting=setting, header_of=headers.header_of)
    headers.warn_if_stale()
    return infos


def _is_as_noted(path: Path, entry: IndexEntry) -> bool:
    try:
        state = path.stat()
    except OSError:
        return False
    return (state.st_size, state.st_mtime_ns) == (entry.size_bytes, entry.changed_ns)


def _entries_of(manifest: Path) -> dict[str, IndexEntry]:
    state = manifest.stat()
    return _read(manifest, state.st_mtime_ns, size_bytes=state.st_size)


@lru_cache(maxsize=4)
def _read(manifest: Path, changed_ns: int, *, size_bytes: int) -> dict[str, IndexEntry]:
    """Read a manifest, cached until it changes; a broken one is treated as empty."""
    try:
        return {entry.path: entry for entry in read_index(manifest)}
    except DataError as error:
        _LOG.warning("warning: %s; reading the headers of all files instead", error)
        return {}
