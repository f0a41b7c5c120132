"""Which audio file a row of a table means: ids without extension, paths of another machine, backslashes."""

from __future__ import annotations

from collections import defaultdict
from functools import cached_property
from pathlib import Path

from engine.data.files.audio_files import find_audio, is_audio_name, is_unread_name
from models.folders import walk
from models.user_paths import expanded

_LONGEST_NAME = 255  # bytes of one part of a path
_FOLDERS = ("", "wavs", "wav", "audio", "audios", "clips")


class AudioNames:
    """The audio files of a folder, by the names that tables have for them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, name: str) -> Path:
        """Return the file that a name means.

        A path as it stands, seen from the folder or its `wavs`; else the one file with that name (or stem) below
        the folder, the last folders of the name deciding between several.

        Raises:
            ValueError: when there is none, or more than one.
        """
        plain = name.replace("\\", "/")
        if (
            "\0" in plain
            or max(map(len, plain.encode("utf-8", "replace").split(b"/"))) > _LONGEST_NAME
        ):
            raise ValueError(f"{name!r:.80} can't be the name of a file")
        given = Path(expanded(plain))
        for folder in _FOLDERS:
            path = self._folder / folder / given
            if is_audio_name(path.name) and path.is_file():
                return path
        found = self._by_name.get(given.name.lower()) or self._by_stem.get(given.name.lower(), [])
        if len(found) > 1:
            found = _like(found, plain)
        if len(found) == 1:
            return found[0]
        if found:
            shown = ", ".join(str(path.relative_to(self._folder)) for path in found[:3])
            raise ValueError(
                f"{name!r:.80} can be any of {len(found)} files ({shown}); write the path"
            )
        unread = self._unread.get(given.stem.lower()) or self._unread.get(given.name.lower())
        why = (
            f"; {unread} is in a format that can't be read: convert it to WAV or FLAC"
            if unread
            else ""
        )
        raise ValueError(f"{name!r:.80}: no such audio file{why}")

    @cached_property
    def all(self) -> list[Path]:
        """Every audio file below the folder."""
        return find_audio(self._folder)

    @cached_property
    def _by_name(self) -> dict[str, list[Path]]:
        names: dict[str, list[Path]] = defaultdict(list)
        for path in self.all:
            names[path.name.lower()].append(path)
        return dict(names)

    @cached_property
    def _by_stem(self) -> dict[str, list[Path]]:
        stems: dict[str, list[Path]] = defaultdict(list)
        for path in self.all:
            stems[path.stem.lower()].append(path)
        return dict(stems)

    @cached_property
    def _unread(self) -> dict[str, str]:
        """Names of files in formats that can't be read, by stem."""
        files = walk(self._folder).files
        return {path.stem.lower(): path.name for path in files if is_unread_name(path.name)}


def _like(paths: list[Path], name: str) -> list[Path]:
    """Return those whose last folders are most like those of a name."""
    parts = [part.lower() for part in Path(name).parts[:-1]]

    def shared(path: Path) -> int:
        count = 0
        for mine, theirs in zip(reversed(path.parts[:-1]), reversed(parts), strict=False):
            if mine.lower() != theirs:
                break
            count += 1
        return count

    most = max(map(shared, paths))
    return [path for path in paths if shared(path) == most]
