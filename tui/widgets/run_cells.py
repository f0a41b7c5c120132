"""The columns and cells of the runs table. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.metrics.registry import common_title, metric_of
from jobs.store.records import RunRecord
from tui.reports import formats
from tui.widgets.charts.palette import STATE_GLYPHS

BAR = "bar"
GAP = 2


@dataclass(frozen=True, slots=True)
class Cell:
    """A piece of a row: `colour` is a theme variable or a shade of the text."""

    text: str
    colour: str = ""
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """A column; those with a higher `rank` are dropped first if the table is narrow."""

    key: str
    title: str
    width: int
    rank: int
    left: bool = False


NAME = Column("name", "run", width=0, rank=0, left=True)
COLUMNS = (
    NAME,
    Column("state", "state", width=14, rank=0, left=True),
    Column("left", "left/took", width=9, rank=2),
    Column("raw", "best", width=7, rank=3),
    Column("ema", "EMA", width=6, rank=1),
    Column("gain", "gain dB", width=7, rank=1),
    Column("updates", "updates", width=9, rank=4),
    Column("speed", "upd/s", width=6, rank=5),
    Column("preset", "preset", width=18, rank=6, left=True),
)
_NAME_WIDTHS = (20, 26)


def layout(width: int) -> list[tuple[Column, int]]:
    """Return the columns that fit in `width` cells with their widths; the name takes the remaining width."""
    room = width - 2 - 1
    chosen = [column for column in COLUMNS if column.rank == 0]
    for column in sorted(COLUMNS, key=lambda column: column.rank):
        used = sum(item.width + GAP for item in chosen if item is not NAME)
        wanted = _NAME_WIDTHS[0] if column.rank <= 3 else _NAME_WIDTHS[1]
        if column not in chosen and room - used - column.width - GAP >= wanted:
            chosen.append(column)
    ordered = [column for column in COLUMNS if column in chosen]
    used = sum(item.width + GAP for item in ordered if item is not NAME)
    return [(column, column.width or max(4, room - used)) for column in ordered]


def header(columns: list[tuple[Column, int]], runs: Sequence[RunRecord]) -> list[Cell]:
    """Return the titles; the column of best values is named after the metric that all runs share."""
    best = common_title(run.metric for run in runs)
    return [
        Cell(
            _align(column, best if column.key == "raw" else column.title, width=width)
            + (" " * GAP),
            "faint",
        )
        for column, width in columns
    ]


def row_cells(
    run: RunRecord, columns: list[tuple[Column, int]], *, place: int, now: float
) -> list[Cell]:
    """Return the cells of a run; `place` is its position in the queue, from 1."""
    cells: list[Cell] = []
    for column, width in columns:
        if column.key == "state":
            cells += _state(run, width, place=place)
        else:
            text, colour = _value(run, column.key, now=now)
            cells.append(Cell(_align(column, text, width=width), colour))
        cells.append(Cell(" " * GAP))
    return cells


def took_s(run: RunRecord, now: float) -> float | None:
    """Return the training time in seconds, or the time since the start if that is unknown."""
    if run.train_seconds:
        return run.train_seconds
    return None if run.started_at is None else (run.ended_at or now) - run.started_at


def _align(column: Column, text: str, *, width: int) -> str:
    if column.left or formats.cells(text) > width:
        return formats.fit(text, width)
    return formats.padded(text, width, right=True)


def _state(run: RunRecord, width: int, *, place: int) -> list[Cell]:
    state = run.condition
    colour = {
        "running": "primary", "queued": "dim", "waiting": "dim", "finished": "success",
        "stopped": "warning", "stopping": "warning", "failed": "error",
    }[state]  # fmt: skip
    cells = [Cell(f"{STATE_GLYPHS[state]} ", colour)]
    if state == "running":
        length = width - 2 - 5
        cells.append(Cell(formats.bar(run.progress, length), colour, kind=BAR))
        cells.append(Cell(f"{formats.percent(run.progress):>5}", colour))
        return cells
    text = state
    if state in {"queued", "waiting"}:
        text = f"{state} #{place}"
    elif state in {"stopped", "failed"} and run.updates:
        text = f"{state} {formats.percent(run.progress)}"
    return [*cells, Cell(formats.fit(text, width - 2), colour)]


def _value(run: RunRecord, key: str, *, now: float) -> tuple[str, str]:
    ended = run.state not in {"queued", "running"}
    if key == "name":
        return formats.clean(run.name), ""
    if key == "left":
        if run.state == "running":
            return formats.duration(run.eta_s), "primary"
        return formats.duration(took_s(run, now)) if ended else "", "dim"
    if key in {"raw", "ema"}:
        value = run.best if key == "raw" else run.best_ema
        text = metric_of(run.metric).text(value) if value is not None else ""
        return text, "dim" if key == "raw" else ""
    if key == "gain":
        value = run.gain
        return (
            (formats.gain(value), "success" if value > 0 else "dim")
            if value is not None
            else ("", "")
        )
    if key == "updates":
        return formats.count(run.updates) if run.updates else "", "dim"
    if key == "speed":
        return formats.number(run.speed) if run.speed and not ended else "", "dim"
    return formats.clean(run.preset), "dim"
