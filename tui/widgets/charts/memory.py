"""The chart of memory: of the run's processes, with gaps where it did not run. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from jobs.store.records import SystemRecord
from tui.live.messages import RunData
from tui.widgets.charts.braille import FloatArray
from tui.widgets.charts.curves import short_names
from tui.widgets.charts.figure import Line

_GIB = float(1024**3)
# A pause between two samples that is this many times the usual one: the run was stopped meanwhile.
_PAUSE = 10
_SHORTEST_PAUSE_S = 30.0


def lines_of_one(item: RunData) -> list[Line]:
    """Return RAM and VRAM of a run; RAM of the machine where that of its processes is not known at all."""
    if not item.system:
        return []
    label = "RAM" if _has_own(item.system) else "machine's RAM"
    return [
        _line(item, label, colour=0, values=_ram(item.system)),
        _line(item, "VRAM", colour=1, values=_vram(item.system)),
    ]


def lines_of_several(data: Sequence[RunData], colours: Mapping[int, int]) -> dict[str, list[Line]]:
    """Return one line a run, by what it shows: VRAM of runs on a GPU, RAM of others; the first run's first."""
    names = short_names(data)
    lines: dict[str, list[Line]] = {}
    for item in data:
        if not item.system:
            continue
        vram = _vram(item.system)
        is_on_gpu = bool(np.isfinite(vram).any())
        what = "VRAM" if is_on_gpu else "RAM" if _has_own(item.system) else "machine's RAM"
        values = vram if is_on_gpu else _ram(item.system)
        line = _line(item, names[item.run.id], colour=colours.get(item.run.id, 0), values=values)
        lines.setdefault(what, []).append(line)
    return lines


def _line(item: RunData, label: str, *, colour: int, values: FloatArray) -> Line:
    """Return values over time, with a gap in each pause."""
    time = np.array([sample.time - item.system[0].time for sample in item.system])
    between = np.diff(time)
    if len(between):
        longest = max(_SHORTEST_PAUSE_S, _PAUSE * float(np.median(between)))
        at = np.flatnonzero(between > longest) + 1
        time = np.insert(time, at, (time[at - 1] + time[at]) / 2)
        values = np.insert(values, at, np.nan)
    return Line(label, colour, x=time, mean=values)


def _has_own(samples: Sequence[SystemRecord]) -> bool:
    return any(sample.process_ram_bytes is not None for sample in samples)


def _ram(samples: Sequence[SystemRecord]) -> FloatArray:
    own = _has_own(samples)
    return _gib([sample.process_ram_bytes if own else sample.ram_bytes for sample in samples])


def _vram(samples: Sequence[SystemRecord]) -> FloatArray:
    return _gib([sample.vram_bytes for sample in samples])


def _gib(sizes: Sequence[int | None]) -> FloatArray:
    return np.array(sizes, dtype=np.float64) / _GIB
