"""Audio files inside uncompressed tar files: found once, then read by seeking. Free of torch."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile

from engine.config.errors import DataError, Problem
from engine.data.files.audio_files import EXTENSIONS, AudioInfo
from engine.data.unlabelled.items import Items, make_items, nothing_left
from engine.data.unlabelled.rows import rows_of_files
from models.user_paths import expanded
from tar_shards.settings import TarShards

# A recording is named `shard.tar/name.flac`; this is where it lies: first byte and number of bytes.
Places = dict[str, tuple[int, int]]


class Shards:
    """The recordings of a split.

    Attributes:
        infos: their headers, in order.
        places: where they lie in their shards.

    Raises:
        DataError: with everything that can't be read.
    """

    def __init__(self, data: TarShards, setting: str) -> None:
        self.folder = expanded(getattr(data, setting.removeprefix("data."))).absolute()
        self.infos: list[AudioInfo] = []
        self.places: Places = {}
        problems: list[Problem] = []
        if not (files := shard_files(self.folder)):
            problems.append(
                Problem(setting, f"{self.folder}: no .tar files; name a folder of shards")
            )
        for file in files:
            try:
                infos, places = _contents(file, file.stat().st_mtime_ns)
            except (tarfile.TarError, soundfile.LibsndfileError, OSError) as error:
                problems.append(Problem(setting, f"{file}: can't be read ({error}); copy it again"))
            else:
                self.infos += infos
                self.places |= places
        if not self.infos and not problems:
            problems.append(Problem(setting, f"{self.folder}: no audio in {len(files)} shards"))
        if problems:
            raise DataError(problems)

    def items(self, data: TarShards, setting: str) -> Items:
        """Return the items: recordings cut, joined or left out by the settings.

        Raises:
            DataError: when none is left.
        """
        items = make_items(rows_of_files(self.infos), data)
        if problem := nothing_left(items, data, path=self.folder):
            raise DataError([Problem(setting, problem)])
        return items


def shard_files(path: Path) -> list[Path]:
    """Return the shards of a folder, in order; a shard is a folder of itself."""
    return sorted(path.glob("*.tar")) if path.is_dir() else [path] if path.is_file() else []


def shard_of(name: str) -> str:
    """Return the shard of a recording: the part before the first `.tar/`."""
    return f"{name.partition('.tar/')[0]}.tar"


def read(name: str, place: tuple[int, int]) -> tuple[np.ndarray, int]:
    """Read a recording, all channels averaged: float32 (T,) at its own rate, and that rate.

    Raises:
        DataError: when it can't be read.
    """
    try:
        with Path(shard_of(name)).open("rb") as file, _opened(file, place) as audio:
            samples_TC = audio.read(dtype="float32", always_2d=True)
            return samples_TC.mean(axis=1), audio.samplerate
    except (soundfile.LibsndfileError, OSError) as error:
        raise DataError([Problem("", f"{name}: can't be read ({error})")]) from None


@lru_cache(maxsize=10_000)
def _contents(file: Path, changed_ns: int) -> tuple[list[AudioInfo], Places]:
    """Return the headers and places of a shard, read once for each time of change."""
    places: Places = {}
    with tarfile.open(file, "r:") as tar:
        for member in tar:
            if member.isfile() and Path(member.name).suffix.lower() in EXTENSIONS:
                places[f"{file}/{member.name}"] = member.offset_data, member.size
    infos = []
    with file.open("rb") as opened:
        for name, place in sorted(places.items()):
            with _opened(opened, place) as audio:
                infos.append(AudioInfo(Path(name), audio.frames, audio.samplerate, audio.channels))
    return infos, places


@contextmanager
def _opened(file: io.BufferedReader, place: tuple[int, int]) -> Iterator[soundfile.SoundFile]:
    with soundfile.SoundFile(io.BufferedReader(_Part(file, *place))) as audio:
        yield audio


class _Part(io.RawIOBase):
    """A range of bytes of an open file, as a file of its own."""

    def __init__(self, file: io.BufferedReader, first: int, size: int) -> None:
        self._file, self._first, self._size, self._place = file, first, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        self._place = max(0, base + offset)
        return self._place

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        self._file.seek(self._first + self._place)
        read = self._file.read(max(0, min(len(buffer), self._size - self._place)))
        buffer[: len(read)] = read
        self._place += len(read)
        return len(read)
