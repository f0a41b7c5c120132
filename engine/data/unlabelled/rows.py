"""Utterances without texts on disk, as columns: a folder, a JSON-lines manifest, or a folder's index.

A manifest has one JSON object in each line: `path` (absolute, or seen from the manifest) and, where
the utterance is a part of the file, `start` and `duration` in seconds. A row that says how long it is,
by `duration` or by `frames` and `rate_hz` of the file, is taken at its word: its file is not opened
before it is read, so that a million rows are there in seconds. Other keys are ignored, so manifests
with texts will do, and so does what `sepdash data index` writes. A .tsv file is read as fairseq writes
its lists of files. Free of torch. Letters: N rows.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from engine.config.errors import DataError, Problem, counted, nearest
from engine.data.files.audio_files import AudioInfo, probe
from engine.data.files.foreign_tables import KALDI, TABLES, kaldi_folder
from engine.data.files.headers import scan_indexed
from engine.data.files.index import INDEX_NAME
from engine.data.files.manifest_keys import means_place
from engine.data.files.manifest_rows import ROUNDING_S, outside, rows_of
from engine.data.files.text_files import lines_of
from models.user_paths import expanded

_KEYS = ("path", "start", "duration")
_WHOLE = float("nan")
_LONGEST_S = 1e9
_MOST_FRAMES = 2**48
# Lines that are read at once: enough to be fast, and few enough for the memory of their objects.
_BLOCK = 20_000
_EXAMPLE = (
    '{"path": "a.flac", "duration": 2.5}, with "start" where the utterance is a part of the file'
)


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """N utterances, in the order of their paths and starts.

    Attributes:
        paths: of the files.
        source: the manifest; empty for a folder.
        lines: (N,) line of the manifest, from 1.
        start_s: (N,) where it begins in its file.
        duration_s: (N,) how long it is; NaN: to the end of the file.
        frames: (N,) samples of the file at its own rate; 0 where that is not known.
        rate_hz: (N,) rate of the file; 0 where that is not known.
    """

    paths: Sequence[str]
    source: str
    lines: np.ndarray
    start_s: np.ndarray
    duration_s: np.ndarray
    frames: np.ndarray
    rate_hz: np.ndarray

    def __len__(self) -> int:
        """Return N."""
        return len(self.paths)

    def place(self, row: int) -> str:
        """Return where a row was found, as "file:line", or the path of its file."""
        return f"{self.source}:{self.lines[row]}" if self.source else self.paths[row]

    def doubles(self) -> str:
        """Say how many rows repeat a part that is there already; empty for none."""
        same = [
            row
            for row in range(1, len(self))
            if self.paths[row] == self.paths[row - 1]
            and self.start_s[row] == self.start_s[row - 1]
            and str(self.duration_s[row]) == str(self.duration_s[row - 1])
        ]
        if not same:
            return ""
        verb = "repeats" if len(same) == 1 else "repeat"
        return f"{counted(len(same), 'row')} {verb} a part that is there already, for example {self.place(same[0])}"

    @property
    def file_s(self) -> np.ndarray:
        """(N,) length of the file in seconds; NaN where that is not known."""
        known = self.frames > 0
        return np.where(known, self.frames / np.where(known, self.rate_hz, 1), np.nan)

    def chosen(self, rows: np.ndarray | Sequence[int]) -> Rows:
        """Return some of the rows, in the order of their numbers in `rows`."""
        numbers = np.asarray(rows, np.int64)
        return Rows(
            [self.paths[row] for row in numbers.tolist()],
            self.source,
            lines=self.lines[numbers],
            start_s=self.start_s[numbers],
            duration_s=self.duration_s[numbers],
            frames=self.frames[numbers],
            rate_hz=self.rate_hz[numbers],
        )


@dataclass(slots=True)
class Found:
    """What a folder or manifest holds: its good rows, and what is wrong with the others."""

    rows: Rows
    bad_rows: list[str] = field(default_factory=list)


def read_rows(path: Path, *, setting: str) -> Rows:
    """Read all utterances of a folder or manifest.

    Raises:
        DataError: with everything that is wrong with it, under the key `setting`.
    """
    if path.is_dir() and kaldi_folder(path) is None:
        return rows_of_files(scan_indexed(path, setting=setting))
    found = read_manifest(path)
    if found.bad_rows:
        raise DataError(Problem(setting, message) for message in found.bad_rows)
    return found.rows


def rows_of_files(infos: Sequence[AudioInfo]) -> Rows:
    """Return a row for each whole file, in their order."""
    return Rows(
        [str(info.path) for info in infos], "", lines=np.zeros(len(infos), np.int64), start_s=np.zeros(len(infos)), duration_s=np.full(len(infos), _WHOLE),
        frames=np.array([info.frames for info in infos], np.int64),
        rate_hz=np.array([info.rate_hz for info in infos], np.int64),
    )  # fmt: skip


def read_manifest(path: Path) -> Found:
    """Read a manifest, opening the files whose length it doesn't give."""
    if not path.exists():
        message = f"{path} does not exist; expected a folder of audio or a manifest (.jsonl, .tsv)"
        return Found(rows_of_files([]), [message])
    if is_file_list(path):
        found = _of_table(path)
    elif kaldi_folder(path) is not None or path.suffix.lower() in TABLES:
        found = _one_by_one(path)
    else:
        found = _at_once(path) or _one_by_one(path)
    _open_unknown(found)
    if not len(found.rows) and not found.bad_rows:
        found.bad_rows.append(f"{path}: contains no utterances; expected lines like {_EXAMPLE}")
    return found


def is_file_list(path: Path) -> bool:
    """Return whether a file is a list of fairseq's: a .tsv whose first line is the folder of the rest."""
    if path.suffix.lower() != ".tsv":
        return False
    _, first = next(lines_of(path, []), (0, ""))
    return "\t" not in first


def _at_once(path: Path) -> Found | None:
    """Return the rows of a manifest without mistakes, several times as fast as one by one; else None."""
    bad_rows: list[str] = []
    numbered = list(lines_of(path, bad_rows))[_first(path) :]
    blocks = [_block(numbered[place : place + _BLOCK]) for place in range(0, len(numbered), _BLOCK)]
    good = [block for block in blocks if block is not None]
    if bad_rows or len(good) < len(blocks):
        return None
    rows = _sorted(path, good)
    return Found(rows) if _is_inside(rows) else None


@dataclass(frozen=True, slots=True, eq=False)
class _Block:
    """Some rows as a manifest has them; `numbers` are (4, n): start, duration, frames and rate."""

    names: list[str]
    lines: Sequence[int]
    numbers: np.ndarray


def _block(numbered: Sequence[tuple[int, str]]) -> _Block | None:
    """Return the rows of some lines, or None where any may be wrong."""
    try:
        text = f"[{','.join(line for _, line in numbered)}]"
        values = json.loads(text, parse_constant=_refuse)
        names = list(map(itemgetter("path"), values))
    except (ValueError, KeyError, TypeError):
        return None
    if len(values) != len(numbered) or set(map(type, values)) - {dict}:
        return None
    keys = set().union(*values)
    if {"offset", "end"} & keys or any(map(means_place, keys)) or not _are_paths(names):
        return None
    misspelt = any(nearest(name, [key]) for name in keys - {*_KEYS} for key in _KEYS)
    if misspelt or not all(names):
        return None
    columns = _columns(values, keys)
    if {kind for column in columns for kind in map(type, column)} - {int, float}:
        return None
    try:
        numbers = np.array(columns, np.float64)
    except OverflowError:
        return None
    if bool((np.abs(numbers[2:]) >= _MOST_FRAMES).any()):
        return None
    return _Block(names, [number for number, _ in numbered], numbers)


def _are_paths(names: Sequence[Any]) -> bool:
    """Return whether all names are texts that can be paths."""
    if set(map(type, names)) - {str}:
        return False
    try:
        return b"\0" not in "".join(names).encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number")


def _columns(values: Sequence[Mapping[str, Any]], keys: Collection[str]) -> list[Sequence[Any]]:
    """Return start, duration, frames and rate; the last two 0 unless the rows have both."""
    columns: list[Sequence[Any]] = [
        [row.get(key, absent) for row in values] if key in keys else [absent] * len(values)
        for key, absent in (("start", 0.0), ("duration", _WHOLE), ("frames", 0), ("rate_hz", 0))
    ]
    if not {"frames", "rate_hz"} <= set(keys):
        columns[2:] = [[0] * len(values)] * 2
    return columns


def _is_inside(rows: Rows) -> bool:
    """Return whether every row is a part of its file, as far as that is known."""
    whole = np.isnan(rows.duration_s)
    duration_s = np.where(whole, 0.0, rows.duration_s)
    file_s = np.where(rows.frames > 0, rows.file_s, _LONGEST_S)
    return bool(
        ((rows.start_s >= 0) & (rows.start_s < file_s)).all()
        and ((rows.start_s + duration_s) <= file_s + ROUNDING_S).all()
        and (whole | (duration_s > 0)).all()
        and ((rows.frames >= 0) & (rows.rate_hz >= 0)).all()
    )


def _one_by_one(path: Path) -> Found:
    bad_rows: list[str] = []
    lines, good = [], []
    source = path / KALDI if path.is_dir() else path
    for place, values in rows_of(path, bad_rows, keys=_KEYS, texts=("path",)):
        source = Path(place.rpartition(":")[0])
        if problems := list(_mistakes(values)):
            bad_rows.append(f"{place}: {'; '.join(problems)}")
        else:
            lines.append(int(place.rpartition(":")[2]))
            good.append(values)
    columns = np.array(_columns(good, set().union(*good)), np.float64)
    rows = _sorted(source, [_Block([values["path"] for values in good], lines, columns)])
    return Found(rows, bad_rows)


def _of_table(path: Path) -> Found:
    """Read a list of files as fairseq and torchaudio's examples write it: a folder, then name and samples.

    The number of samples is not used: it says nothing without the rate, and the files are opened.
    """
    bad_rows: list[str] = []
    (_, folder), *rest = [*lines_of(path, bad_rows)] or [(0, "")]
    names, lines = [], []
    for number, line in rest:
        name, tab, samples = line.partition("\t")
        if tab and name and samples.strip().isdecimal():
            names.append(os.path.join(folder, name))  # noqa: PTH118 - as quick as it can be
            lines.append(number)
        else:
            expected = "a file name, a tab and its number of samples"
            bad_rows.append(f"{path}:{number}: expected {expected}, found {line!r:.60}")
    rows = _sorted(path, [_Block(names, lines, np.array(_columns([{}] * len(names), ())))])
    return Found(rows, bad_rows)


def _mistakes(values: Mapping[str, Any]) -> Iterator[str]:
    length_s = None
    if "frames" in values and "rate_hz" in values:
        for key in ("frames", "rate_hz"):
            if type(values[key]) is not int or not 0 < values[key] < _MOST_FRAMES:
                yield f"{key} must be a whole number above 0, found {values[key]!r:.60}"
                return
        length_s = values["frames"] / values["rate_hz"]
    start_s, duration_s = float(values.get("start", 0.0)), values.get("duration")
    yield from outside(start_s, duration_s, length_s=length_s)


def _first(path: Path) -> int:
    """Return how many lines are not about files: the first one of an index is about itself."""
    return int(path.name == INDEX_NAME)


def _sorted(manifest: Path, blocks: Sequence[_Block]) -> Rows:
    """Return the rows by path and start, so that the lines of a manifest may be in any order."""
    folder = f"{manifest.parent}{os.sep}"
    # A million objects of pathlib would take seconds.
    paths = [
        folder + name
        if name[0] not in "~/"
        else str(manifest.parent / expanded(name, beside=manifest.parent))
        for block in blocks
        for name in block.names
    ]
    lines = np.array([line for block in blocks for line in block.lines], np.int64)
    numbers = np.concatenate([np.zeros((4, 0)), *(block.numbers for block in blocks)], axis=1)
    start_s, duration_s = numbers[:2]
    frames, rate_hz = (numbers[2:] * (numbers[2:] != 0).all(axis=0)).astype(np.int64)
    rows = Rows(
        paths, str(manifest), lines=lines, start_s=start_s, duration_s=duration_s,
        frames=frames, rate_hz=rate_hz,
    )  # fmt: skip
    by_start = np.argsort(start_s, kind="stable").tolist()
    return rows.chosen(sorted(by_start, key=paths.__getitem__))


def _open_unknown(found: Found) -> None:
    """Read the headers of files that rows go to the end of without saying where that is."""
    rows = found.rows
    unknown = np.flatnonzero(np.isnan(rows.duration_s) & (rows.frames == 0))
    if not len(unknown):
        return
    frames, rate_hz = rows.frames.copy(), rows.rate_hz.copy()
    good = np.ones(len(rows), bool)
    infos: dict[str, AudioInfo | str] = {}
    for row in unknown.tolist():
        name = rows.paths[row]
        if name not in infos:
            infos[name] = _header(name)
        info = infos[name]
        if isinstance(info, str):
            problem = info
        else:
            frames[row], rate_hz[row] = info.frames, info.rate_hz
            problem = "; ".join(outside(rows.start_s[row], None, length_s=info.duration_s))
        if problem:
            good[row] = False
            found.bad_rows.append(f"{rows.place(row)}: {problem}")
    found.rows = replace(rows, frames=frames, rate_hz=rate_hz).chosen(np.flatnonzero(good))


def _header(name: str) -> AudioInfo | str:
    try:
        return probe(Path(name))
    except DataError as error:
        return error.problems[0].message
