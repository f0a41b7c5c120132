"""Utterances without texts on disk, as columns: a folder, a JSON-lines manifest, or a folder's index.

A manifest has one JSON object in each line: `path` (absolute, or seen from the manifest) and, where
the utterance is a part of the file, `start` and `duration` in seconds. A row that says how long it is,
by `duration` or by `frames` and `rate_hz` of the file, is taken at its word: its file is not opened
before it is read, so that a million rows are there in seconds. Other keys are ignored, so manifests
with texts will do, and so does what `sepdash data index` writes. Free of torch. Letters: N rows.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from engine.config.errors import DataError, Problem, nearest
from engine.data.files.audio_files import AudioInfo, probe
from engine.data.files.headers import scan_indexed
from engine.data.files.index import INDEX_NAME
from engine.data.files.manifest_rows import ROUNDING_S, lines_of, outside, rows_of
from models.user_paths import expanded

_KEYS = ("path", "start", "duration")
_WHOLE = float("nan")
_LONGEST_S = 1e9
_EXAMPLE = (
    '{"path": "a.flac", "duration": 2.5}, with "start" where the utterance is a part of the file'
)


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """N utterances, in the order of their paths and starts.

    Attributes:
        paths: of the files.
        places: where each was found, as "file:line" or the file itself.
        start_s: (N,) where it begins in its file.
        duration_s: (N,) how long it is; NaN: to the end of the file.
        frames: (N,) samples of the file at its own rate; 0 where that is not known.
        rate_hz: (N,) rate of the file; 0 where that is not known.
    """

    paths: Sequence[str]
    places: Sequence[str]
    start_s: np.ndarray
    duration_s: np.ndarray
    frames: np.ndarray
    rate_hz: np.ndarray

    def __len__(self) -> int:
        """Return N."""
        return len(self.paths)

    @property
    def file_s(self) -> np.ndarray:
        """(N,) length of the file in seconds; NaN where that is not known."""
        known = self.frames > 0
        return np.where(known, self.frames / np.where(known, self.rate_hz, 1), np.nan)

    def chosen(self, rows: np.ndarray | Sequence[int]) -> Rows:
        """Return some of the rows, in the order of their numbers in `rows`."""
        numbers = np.asarray(rows, np.int64)
        listed = numbers.tolist()
        return Rows(
            [self.paths[row] for row in listed],
            [self.places[row] for row in listed],
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
    if path.is_dir():
        return rows_of_files(scan_indexed(path, setting=setting))
    found = read_manifest(path)
    if found.bad_rows:
        raise DataError(Problem(setting, message) for message in found.bad_rows)
    return found.rows


def rows_of_files(infos: Sequence[AudioInfo]) -> Rows:
    """Return a row for each whole file, in their order."""
    names = [str(info.path) for info in infos]
    return Rows(
        names, names, start_s=np.zeros(len(infos)), duration_s=np.full(len(infos), _WHOLE),
        frames=np.array([info.frames for info in infos], np.int64),
        rate_hz=np.array([info.rate_hz for info in infos], np.int64),
    )  # fmt: skip


def read_manifest(path: Path) -> Found:
    """Read a manifest, opening the files whose length it doesn't give."""
    if not path.exists():
        message = f"{path} does not exist; expected a folder of audio or a manifest (.jsonl)"
        return Found(rows_of_files([]), [message])
    found = _at_once(path) or _one_by_one(path)
    _open_unknown(found)
    if not len(found.rows) and not found.bad_rows:
        found.bad_rows.append(f"{path}: contains no utterances; expected lines like {_EXAMPLE}")
    return found


def _at_once(path: Path) -> Found | None:
    """Return the rows of a manifest without mistakes, several times as fast as one by one; else None."""
    bad_rows: list[str] = []
    numbered = list(lines_of(path, bad_rows))[_first(path) :]
    try:
        values = json.loads(f"[{','.join(line for _, line in numbered)}]")
        names = list(map(itemgetter("path"), values))
    except (json.JSONDecodeError, KeyError, TypeError):
        return None
    if bad_rows or len(values) != len(numbered) or set(map(type, values)) - {dict}:
        return None
    others = set().union(*values) - {*_KEYS}
    if set(map(type, names)) - {str} or not all(names):
        return None
    if any(nearest(name, [key]) for name in others for key in _KEYS):
        return None  # perhaps a misspelling, of which the rows tell more
    starts, durations, frames, rates = _columns(values)
    numbers = {*map(type, starts), *map(type, durations)}
    if numbers - {int, float} or {*map(type, frames), *map(type, rates)} - {int}:
        return None
    rows = _sorted(
        [_beside(path, name) for name in names], [f"{path}:{number}" for number, _ in numbered],
        starts=starts, durations=durations, frames=frames, rates=rates,
    )  # fmt: skip
    return Found(rows) if _is_inside(rows) else None


def _columns(values: Sequence[Mapping[str, Any]]) -> tuple[list[Any], ...]:
    """Return start, duration, and the frames and rate of files, where a row has both."""
    both = [(row.get("frames", 0), row.get("rate_hz", 0)) for row in values]
    both = [pair if pair[0] and pair[1] else (0, 0) for pair in both]
    return (
        [row.get("start", 0.0) for row in values],
        [row.get("duration", _WHOLE) for row in values],
        [frames for frames, _ in both],
        [rate_hz for _, rate_hz in both],
    )


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
    places, good = [], []
    for place, values in rows_of(path, bad_rows, keys=_KEYS, texts=("path",)):
        if _first(path) and "format" in values:
            continue
        if problems := list(_mistakes(values)):
            bad_rows.append(f"{place}: {'; '.join(problems)}")
        else:
            places.append(place)
            good.append(values)
    starts, durations, frames, rates = _columns(good)
    names = [_beside(path, values["path"]) for values in good]
    rows = _sorted(
        names, places, starts=starts, durations=durations, frames=frames, rates=rates
    )  # fmt: skip
    return Found(rows, bad_rows)


def _mistakes(values: Mapping[str, Any]) -> Iterator[str]:
    length_s = None
    if "frames" in values and "rate_hz" in values:
        for key in ("frames", "rate_hz"):
            if type(values[key]) is not int or values[key] <= 0:
                yield f"{key} must be a whole number above 0, found {values[key]!r:.60}"
                return
        length_s = values["frames"] / values["rate_hz"]
    start_s, duration_s = float(values.get("start", 0.0)), values.get("duration")
    yield from outside(start_s, duration_s, length_s=length_s)


def _first(path: Path) -> int:
    """Return how many lines are not about files: the first one of an index is about itself."""
    return int(path.name == INDEX_NAME)


def _beside(manifest: Path, name: str) -> str:
    if name.startswith("~"):
        return str(manifest.parent / expanded(name))
    return os.path.join(manifest.parent, name)  # noqa: PTH118 - a million of Path take seconds


def _sorted(
    paths: list[str], places: list[str], *, starts: list[Any], durations: list[Any],
    frames: list[int], rates: list[int],
) -> Rows:  # fmt: skip
    """Return the rows by path and start, so that the lines of a manifest may be in any order."""
    rows = Rows(
        paths, places, start_s=np.array(starts, np.float64),
        duration_s=np.array(durations, np.float64), frames=np.array(frames, np.int64),
        rate_hz=np.array(rates, np.int64),
    )  # fmt: skip
    by_start = np.argsort(rows.start_s, kind="stable").tolist()
    order = sorted(by_start, key=paths.__getitem__)
    return rows if order == list(range(len(order))) else rows.chosen(order)


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
            found.bad_rows.append(f"{rows.places[row]}: {problem}")
    found.rows = replace(rows, frames=frames, rate_hz=rate_hz).chosen(np.flatnonzero(good))


def _header(name: str) -> AudioInfo | str:
    try:
        return probe(Path(name))
    except DataError as error:
        return error.problems[0].message
