"""The one walk of a person's folders: what is there, what can't be read, and what is left out. Standard library only.

Whoever looks for audio, transcripts, stems, speakers, labels or presets takes the files from here, so
that a check, a plan and a training see the same ones. Links are followed; a folder that several lead
to is read once; never-data (`NEVER`, and names with a dot in front) is left out. A file system that
doesn't answer ends the walk after `limit_s()`, with one line.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISDIR
from typing import Generic, TypeVar

T = TypeVar("T")

LIMIT_VARIABLE = "SEPDASH_ANSWER_S"
_LIMIT_S = 60.0
# Folders that file managers, servers and file systems make beside data; compared without regard to case.
NEVER = frozenset(
    {
        "__macosx",
        "@eadir",
        "@recycle",
        "@recently-snapshot",
        "@tmp",
        "#recycle",
        "#snapshot",
        "lost+found",
        "$recycle.bin",
        "system volume information",
        "network trash folder",
        "temporary items",
    }
)
# Root of a walk that got no answer -> when that was, and what was said: nobody waits for it again at once.
_SILENT: dict[Path, tuple[float, str]] = {}


class NoAnswer(OSError):
    """A file system did not answer in time; the message names the place."""


@dataclass(frozen=True, slots=True)
class Walk:
    """What is below a folder, in the order of the paths' parts.

    Attributes:
        root: the folder.
        files: what is no folder, whatever its name; also special files, and links that lead nowhere.
        folders: those below the root.
        problems: folders that can't be read, each with its reason.
        notes: links that were not followed, each with its reason.
    """

    root: Path
    files: tuple[Path, ...]
    folders: tuple[Path, ...]
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def named(self, is_wanted: Callable[[str], bool]) -> list[Path]:
        """Return the files whose names are wanted."""
        return [path for path in self.files if is_wanted(path.name)]

    def by_folder(self, is_wanted: Callable[[str], bool]) -> Mapping[Path, list[Path]]:
        """Return the wanted files that lie directly in each folder that has some."""
        found: dict[Path, list[Path]] = defaultdict(list)
        for path in self.named(is_wanted):
            found[path.parent].append(path)
        return found

    @property
    def own_folders(self) -> list[Path]:
        """Folders directly below the root."""
        return [path for path in self.folders if path.parent == self.root]


def walk(root: Path, *, depth: int | None = None) -> Walk:
    """Return what is below a folder; what can't be read is among its problems.

    Args:
        root: the folder; its own name may be any, and it may be a link.
        depth: how many levels are read, 1 for the folder alone; all when left out.
    """
    asked_at, problem = _SILENT.get(root, (0.0, ""))
    if problem and time.monotonic() - asked_at < limit_s():
        return Walk(root, (), (), problems=(problem,))
    try:
        return answered(lambda pulse: _Walker(root, depth, pulse=pulse).run(), root)
    except NoAnswer as error:
        _SILENT[root] = time.monotonic(), str(error)
        return Walk(root, (), (), problems=(str(error),))


def is_never_data(name: str) -> bool:
    """Return whether a file or folder of this name is left out wherever it lies below a folder of data."""
    return name.startswith(".") or name.lower() in NEVER


def kind_of(path: Path) -> str:
    """Return "folder", "file" (of any sort), or "" for what does not exist; links are followed.

    Raises:
        NoAnswer: when the file system does not answer.
    """

    def look(_: Pulse) -> str:
        try:
            return "folder" if S_ISDIR(path.stat().st_mode) else "file"
        except (OSError, ValueError):
            return ""

    return answered(look, path)


def limit_s() -> float:
    """Return for how many seconds a file system may be silent: `SEPDASH_ANSWER_S`, or 60."""
    try:
        return max(0.1, float(os.environ[LIMIT_VARIABLE]))
    except (KeyError, ValueError):
        return _LIMIT_S


@dataclass(slots=True)
class Pulse:
    """The sign of life of work on a file system: what it has asked for last."""

    place: str
    count: int = 0

    def at(self, place: str | Path) -> None:
        """Say what is asked for next."""
        self.place = str(place)
        self.count += 1


@dataclass(slots=True)
class _Outcome(Generic[T]):
    values: list[T] = field(default_factory=list)
    error: BaseException | None = None


def answered(work: Callable[[Pulse], T], place: Path) -> T:
    """Return the result of work that asks a file system, which may not answer.

    A call to a mount that is gone can't be interrupted, so the work has a thread of its own, which is
    left behind in that case. It may take any time as long as it goes on asking.

    Args:
        work: gets the pulse, and calls `at` before each question.
        place: what it asks for first.

    Raises:
        NoAnswer: when a question was not answered in `limit_s()`.
    """
    pulse, outcome = Pulse(str(place)), _Outcome[T]()

    def run() -> None:
        try:
            outcome.values.append(work(pulse))
        except BaseException as error:  # noqa: BLE001 - raised again below, in the thread of the caller
            outcome.error = error

    thread = threading.Thread(target=run, name="folder walk", daemon=True)
    thread.start()
    limit = limit_s()
    while True:
        count = pulse.count
        thread.join(limit)
        if not thread.is_alive():
            break
        if pulse.count == count:
            raise NoAnswer(
                f"{pulse.place}: no answer from its file system for {limit:g} s; is a network mount gone? "
                f"Mount it again, or wait longer with {LIMIT_VARIABLE}=SECONDS"
            )
    if outcome.error is not None:
        raise outcome.error
    return outcome.values[0]


class _Walker:
    """One walk: real folders first, then what links lead to, so that a folder has its own name where it can."""

    def __init__(self, root: Path, depth: int | None, *, pulse: Pulse) -> None:
        self._root = str(root)
        self._depth = depth
        self._pulse = pulse
        self._seen: set[str] = set()
        # (path, level) of links to folders.
        self._links: list[tuple[str, int]] = []
        self._files: list[str] = []
        self._folders: list[str] = []
        self._problems: list[str] = []
        self._notes: list[str] = []

    def run(self) -> Walk:
        self._below(self._root, os.path.realpath(self._root), level=0)
        while self._links:
            links, self._links = sorted(self._links), []
            for path, level in links:
                self._follow(path, level)
        return Walk(
            Path(self._root),
            tuple(map(Path, sorted(self._files, key=_parts))),
            tuple(map(Path, sorted(self._folders, key=_parts))),
            problems=tuple(sorted(self._problems)),
            notes=tuple(sorted(self._notes)),
        )

    def _follow(self, path: str, level: int) -> None:
        self._pulse.at(path)
        real, parent = os.path.realpath(path), os.path.realpath(os.path.dirname(path))  # noqa: PTH120
        if f"{parent}{os.sep}".startswith(f"{real.rstrip(os.sep)}{os.sep}"):
            self._notes.append(f"{path}: a link to a folder that it lies in; not followed")
        elif real in self._seen:
            self._notes.append(f"{path}: a link to {real}, which is read already; not read twice")
        else:
            self._folders.append(path)
            self._below(path, real, level=level)

    def _below(self, top: str, real: str, *, level: int) -> None:
        """Read a folder and the real folders below it, of which none has been read."""
        stack = [(top, real, level)]
        while stack:
            path, real, level = stack.pop()
            if real in self._seen:
                self._notes.append(f"{path}: read already by a link to it; not read twice")
                continue
            self._seen.add(real)
            if self._depth is None or level < self._depth:
                own = self._entries(path, level)
                stack.extend((_in(path, name), _in(real, name), level + 1) for name in own)

    def _entries(self, path: str, level: int) -> list[str]:
        """Sort what lies in a folder; return the names of its real folders."""
        self._pulse.at(path)
        own: list[str] = []
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    name = entry.name
                    if is_never_data(name):
                        continue
                    here = _in(path, name)
                    if not self._is_folder(entry, here):
                        self._files.append(here)
                    elif entry.is_symlink():
                        self._links.append((here, level + 1))
                    else:
                        self._folders.append(here)
                        own.append(name)
        except OSError as error:
            self._problems.append(f"{path}: this folder can't be read ({error.strerror or error})")
        return own

    def _is_folder(self, entry: os.DirEntry[str], here: str) -> bool:
        if not entry.is_symlink():
            return entry.is_dir()
        self._pulse.at(here)
        try:
            return entry.is_dir()
        except OSError as error:
            # A link in a circle is a file that can't be opened; any other may be a folder of data.
            if error.errno != errno.ELOOP:
                self._problems.append(
                    f"{here}: this link can't be followed ({error.strerror or error})"
                )
            return False


def _in(folder: str, name: str) -> str:
    return folder + name if folder.endswith(os.sep) else f"{folder}{os.sep}{name}"


def _parts(path: str) -> str:
    """Return a key by which paths are in the order of their parts, as those of pathlib are."""
    return path.replace(os.sep, "\0")


def unused(path: Path) -> Path:
    """Return `path`, or where something has that name, the first of `path-2`, `path-3`, ... that nothing has."""
    place, number = path, 1
    while os.path.lexists(place):
        number += 1
        place = path.with_name(f"{path.name}-{number}")
    return place
