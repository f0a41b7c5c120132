"""Where the audio of both sides comes from: clips of runs, folders, or single files.

Clips are those that runs kept of their evaluations (`validation.clips`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.config.errors import counted
from engine.data.files.audio_files import find_audio, probe, read_segment
from engine.metrics.registry import metric_of, stored_name
from jobs.home import Home
from jobs.listening.audio import Stimulus
from jobs.store.reader import StoreReader
from jobs.store.records import ALL_POINTS, RunRecord

INPUT, TARGET = "input", "target"
_ESTIMATE = "estimate"


@dataclass(frozen=True, slots=True)
class Sides:
    """Two sides with their common items; `notes` say what was left out or chosen."""

    a: str
    b: str
    stimuli: tuple[Stimulus, ...]
    notes: tuple[str, ...] = ()


class ClipsError(ValueError):
    """Runs have no clips that can be compared."""


def clips_of(home: Home, reader: StoreReader, *, a: str, b: str, when: str) -> Sides:
    """Return the clips of two runs, or of one run and its input or target.

    Args:
        home: where runs are.
        reader: of its store.
        a: a run, or `input` or `target`, the signals of the other side.
        b: likewise.
        when: the evaluation: `final`, `best` (of the headline metric), or a number of updates.

    Raises:
        ClipsError: where there are none for both.
        ValueError: for a run beside itself, and for an evaluation without clips.
    """
    names = [side for side in (a, b) if side not in (INPUT, TARGET)]
    runs = [reader.run(name) for name in names]
    if len({run.id for run in runs}) < len(runs):
        raise ValueError(f"{a} and {b} are the same run")
    chosen = [_Kept(home, reader, run=run, when=when) for run in runs]
    if len(chosen) == 2:
        _check_same_items(*chosen)
    by_side = dict(zip(names, chosen, strict=True))
    pools = [
        by_side[side].estimates if side in by_side else chosen[0].others(side) for side in (a, b)
    ]
    common = [key for key in pools[0] if key in pools[1]]
    if not common:
        raise ClipsError(f"{a} and {b} have no clips of the same items and sources")
    titles = [by_side[side].title if side in by_side else side for side in (a, b)]
    stimuli = tuple(Stimulus(key, pools[0][key], b=pools[1][key]) for key in common)
    if gone := [str(path) for item in stimuli for path in (item.a, item.b) if not path.is_file()]:
        raise ClipsError(f"files missing on disk: {', '.join(gone)}")
    return Sides(titles[0], titles[1], stimuli=stimuli)


class _Kept:
    """The clips of one run at one evaluation: "item 0" or "item 0, vocals" -> file."""

    def __init__(self, home: Home, reader: StoreReader, *, run: RunRecord, when: str) -> None:
        clips = reader.clips(run.id)
        updates = sorted({clip.updates for clip in clips if clip.kind.startswith(_ESTIMATE)})
        if not updates:
            raise ClipsError(
                f"run {run.name} kept no clips (validation.clips was 0, or no evaluation yet)"
            )
        self.run = run
        self.updates = _chosen(reader, run, updates=updates, when=when)
        self.title = f"{run.name} at {counted(self.updates, 'update')}"
        self._signals: dict[str, dict[str, Path]] = {}
        for clip in clips:
            if clip.updates in (0, self.updates):
                kind, _, source = clip.kind.partition(".")
                key = f"item {clip.item}, {source}" if source else f"item {clip.item}"
                self._signals.setdefault(kind, {})[key] = home.file_of_run(run.id, clip.path)

    @property
    def estimates(self) -> Mapping[str, Path]:
        """What the model put out."""
        return self._signals[_ESTIMATE]

    def others(self, kind: str) -> Mapping[str, Path]:
        """Return inputs or targets under the keys of the estimates; all sources have one input."""
        files = self._signals.get(kind, {})
        found = {key: files.get(key) or files.get(key.partition(",")[0]) for key in self.estimates}
        return {key: path for key, path in found.items() if path is not None}


def _chosen(reader: StoreReader, run: RunRecord, *, updates: Sequence[int], when: str) -> int:
    if when == "final":
        return updates[-1]
    if when != "best":
        if not when.isdecimal() or int(when) not in updates:
            shown = ", ".join(map(str, updates))
            raise ValueError(
                f"run {run.name} has no clips at {when}; expected best, final, or {shown}"
            )
        return int(when)
    metric = metric_of(run.metric)
    # Clips are those of the averaged weights.
    name = stored_name(metric.name, ema=True)
    curve = reader.curves(run.id, (name,), max_points=ALL_POINTS)[name]
    best, value = updates[-1], None
    for at, last in zip(curve.updates, curve.last, strict=True):
        if at in updates and last is not None and metric.is_better(last, value):
            best, value = at, last
    return best


def _check_same_items(a: _Kept, b: _Kept) -> None:
    """Refuse items of equal numbers whose targets differ: the runs were evaluated on other data."""
    files_a, files_b = a.others(TARGET), b.others(TARGET)
    for key in files_a:
        if key not in files_b:
            continue
        if not _same_audio(files_a[key], files_b[key]):
            raise ClipsError(
                f"{a.run.name} and {b.run.name} were evaluated on different items (the target of {key} "
                "differs), so their clips can't be compared"
            )  # fmt: skip


def _same_audio(a: Path, b: Path) -> bool:
    if not (a.is_file() and b.is_file()):
        return True
    one, two = probe(a), probe(b)
    if (one.frames, one.rate_hz, one.channels) != (two.frames, two.rate_hz, two.channels):
        return False
    signals = [read_segment(info, 0, frames=info.frames) for info in (one, two)]
    return np.array_equal(signals[0], signals[1])


def files_of(a: Path, b: Path) -> Sides:
    """Return two files, or the files of two folders that have equal names, whatever their formats.

    Raises:
        ValueError: for a file and a folder, and for folders that have no names in common.
    """
    names = _titles(a, b)
    if a.is_file() and b.is_file():
        return Sides(*names, stimuli=(Stimulus("the file", a, b=b),))
    if not (a.is_dir() and b.is_dir()):
        raise ValueError(f"expected two files or two folders, found {a} and {b}")
    files_a, files_b = by_name(a), by_name(b)
    common = [name for name in files_a if name in files_b]
    if not common:
        raise ValueError(
            f"no audio files in {a} and {b} have the same name; rename those that belong together"
        )
    alone = len(files_a) + len(files_b) - 2 * len(common)
    notes = (f"skipped {counted(alone, 'file')} without a partner",) if alone else ()
    stimuli = tuple(Stimulus(name, files_a[name], b=files_b[name]) for name in common)
    return Sides(*names, stimuli=stimuli, notes=notes)


def by_name(folder: Path) -> dict[str, Path]:
    """Return the audio files below a folder by their relative paths without endings."""
    return {
        path.relative_to(folder).with_suffix("").as_posix(): path for path in find_audio(folder)
    }


def _titles(a: Path, b: Path) -> tuple[str, str]:
    return (a.name, b.name) if a.name != b.name else (str(a), str(b))
