"""A manifest of the audio files of a folder, and what has changed since it was written. Free of torch.

A text file: one line of JSON for each audio file, in the order of the paths, after a line about itself.
A file counts as changed when its size or modification time differs; with hashes, its bytes decide.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from hashlib import file_digest
from pathlib import Path

from engine.config.errors import DataError, Problem
from engine.data.files.audio_files import AudioInfo, check_folder, find_audio, scan_folder

# Name of the manifest inside the folder that it describes.
INDEX_NAME = "sepdash-index.jsonl"
_FORMAT = "sepdash data index"
_VERSION = 1


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """One file; `sha256` is empty where bytes were not hashed; `note` is that of `AudioInfo`."""

    path: str
    size_bytes: int
    changed_ns: int
    frames: int
    rate_hz: int
    channels: int
    sha256: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class IndexChange:
    """A file that is not what the manifest says; `what` is added, removed or changed."""

    what: str
    path: str


def make_index(folder: Path, *, hashes: bool = False) -> list[IndexEntry]:
    """Describe every audio file below a folder.

    Raises:
        DataError: for all files that can't be read.
    """
    return [_entry(folder, info, hashes=hashes) for info in scan_folder(folder, setting="")]


def write_index(path: Path, entries: list[IndexEntry]) -> None:
    """Write a manifest, whole or not at all."""
    head = {"format": _FORMAT, "version": _VERSION, "num_files": len(entries)}
    lines = [json.dumps(head), *map(_line, entries)]
    aside = path.with_name(f".{path.name}.new")
    aside.write_text("\n".join(lines) + "\n")
    aside.replace(path)


def read_index(path: Path) -> list[IndexEntry]:
    """Read a manifest.

    Raises:
        DataError: when the file is not a manifest, is truncated, or has a newer version.
    """
    try:
        head, *lines = map(json.loads, path.read_text().splitlines())
        if head["format"] != _FORMAT or head["version"] > _VERSION:
            raise ValueError(f"format {head['format']!r}, version {head['version']}")
        entries = [IndexEntry(**line) for line in lines]
        if len(entries) != head["num_files"]:
            raise ValueError(f"has {len(entries)} of {head['num_files']} entries")
    except (ValueError, KeyError, TypeError, OSError) as error:
        message = f"{path}: not a valid index ({error}); create it again with `sepdash data index`"
        raise DataError([Problem("", message)]) from None
    return entries


def index_changes(folder: Path, entries: list[IndexEntry]) -> Iterator[IndexChange]:
    """Compare a folder with its manifest; bytes are read only where the time alone differs."""
    check_folder(folder, setting="")
    known = {entry.path: entry for entry in entries}
    there = {path.relative_to(folder).as_posix(): path for path in find_audio(folder)}
    for name in sorted(known.keys() | there.keys()):
        if name not in there:
            yield IndexChange("removed", name)
        elif name not in known:
            yield IndexChange("added", name)
        elif _differs(there[name], known[name]):
            yield IndexChange("changed", name)


def _line(entry: IndexEntry) -> str:
    # Earlier versions know no notes, and most files have none.
    return json.dumps(
        {key: value for key, value in asdict(entry).items() if key != "note" or value}
    )


def _differs(path: Path, entry: IndexEntry) -> bool:
    state = path.stat()
    if state.st_size != entry.size_bytes:
        return True
    if state.st_mtime_ns == entry.changed_ns:
        return False
    return not entry.sha256 or _hash(path) != entry.sha256


def _entry(folder: Path, info: AudioInfo, *, hashes: bool) -> IndexEntry:
    state = info.path.stat()
    return IndexEntry(
        info.path.relative_to(folder).as_posix(),
        state.st_size,
        changed_ns=state.st_mtime_ns,
        frames=info.frames,
        rate_hz=info.rate_hz,
        channels=info.channels,
        sha256=_hash(info.path) if hashes else "",
        note=info.note,
    )


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
